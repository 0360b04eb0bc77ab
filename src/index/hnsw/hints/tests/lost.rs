//! What an open makes up for when rows are gone, or came unseen by the log.

use super::super::super::graph::{Edits, ListEdit};
use super::super::super::nodes::Nodes;
use super::super::LINKS_MIN;
use super::*;

/// Takes a node out of all level-0 lists but that of `kept`.
fn forget(index: &mut Hnsw, node: u32, kept: Option<u32>) {
    let graph = index.graph.as_mut().unwrap();
    let holders = (0..graph.nodes() as u32).filter(|&other| Some(other) != kept);
    let holders = holders.filter(|&other| graph.links(0, other).contains(node));
    let lists = holders.map(|holder| {
        let links = graph.links(0, holder).iter();
        ListEdit {
            level: 0,
            node: holder,
            links: links.filter(|&link| link != node).collect(),
        }
    });
    let lists = lists.collect();
    graph.apply(Edits { lists, entry: None });
}

#[test]
fn a_row_to_which_only_one_that_is_gone_led_gets_links_from_its_neighbours() {
    let mut before = built();
    let graph = before.graph.as_ref().unwrap();
    let is_free = |&node: &u32| graph.entry().is_none_or(|entry| entry.node != node);
    // Nobody who is led to one of the two is left with so few links that it is searched for.
    let is_spared = |&(_, host, lone): &(usize, u32, u32)| {
        let mut nodes = 0..graph.nodes() as u32;
        nodes.all(|node| {
            let links = graph.links(0, node);
            let lost = [host, lone]
                .into_iter()
                .filter(|&node| links.contains(node));
            let lost = lost.count();
            lost == 0 || links.len() >= LINKS_MIN + lost
        })
    };
    let mut pairs = (0..ROWS).filter_map(|row| {
        let host = before.rows.node(Slot::new(row)).unwrap();
        let lone = graph.links(0, host).iter().find(is_free)?;
        Some((row, host, lone))
    });
    let (gone, host, lone) = pairs.find(is_spared).unwrap();
    forget(&mut before, lone, Some(host));
    assert_eq!(before.check(), [""; 0]);
    assert_eq!(before.graph.as_ref().unwrap().in_degree(lone), 1);
    let row = Slot::from_raw(before.nodes.slots(lone)[0]);
    let mut prints = Vec::new();
    for threads in [1, 2, 8] {
        let pool = crate::pool::new(threads).unwrap();
        let mut after = loaded((0..ROWS).filter(|&row| row != gone), &before.hints());
        let linked = pool.install(|| after.build(&|_, _| true)).unwrap();
        assert_eq!(
            (linked.gone, linked.relinked),
            (1, 0),
            "nothing is searched for"
        );
        assert_eq!(after.check(), [""; 0]);
        let node = after.rows.node(row).unwrap();
        let in_links = after.graph.as_ref().unwrap().in_degree(node);
        assert!(in_links >= 2, "{in_links} links to it");
        prints.push(links(&after));
    }
    assert!(prints.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Nothing need lead to where walks begin, until they begin elsewhere.
#[test]
fn a_row_that_the_log_does_not_know_may_be_where_walks_begin() {
    let params = crate::schema::HnswParams::default();
    let level = |id: u64| Nodes::draw_level(params.seed, params.m, RowId::new(id));
    let mut before = built();
    let entry = before.graph.as_ref().unwrap().entry().unwrap();
    forget(&mut before, entry.node, None);
    assert_eq!(before.check(), [""; 0]);
    let high = (100_000..).find(|&id| level(id) > entry.level).unwrap();
    let id = |row: usize| match row {
        ROWS => RowId::new(high),
        row => id_of(row),
    };
    let mut after = loaded_as(0..ROWS + 1, &before.hints(), id);
    let linked = after.build(&|_, _| true).unwrap();
    assert_eq!((linked.added, linked.relinked), (1, 1));
    assert_ne!(after.graph.as_ref().unwrap().entry(), Some(entry));
    assert_eq!(after.check(), [""; 0]);
}
