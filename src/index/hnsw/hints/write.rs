//! From a graph to groups of bytes.

use rayon::prelude::*;

use super::super::Hnsw;
use super::super::graph::Graph;
use super::super::nodes::DEAD;
use super::{BY_PLACE, BY_ROW_ID, GROUP_BYTES, HEAD_LEN, zigzag};
use crate::ids::{RowId, Slot};

/// Nodes that are written by one worker at a time.
const NODES: usize = 1 << 14;

/// Marks a node without a place.
const NOWHERE: u32 = u32::MAX;

impl Hnsw {
    /// The whole graph as groups; none where there is no graph.
    pub(crate) fn hints(&self) -> Vec<Vec<u8>> {
        let Some(graph) = &self.graph else {
            return Vec::new();
        };
        let live: Vec<u32> = self.nodes.live_nodes().collect();
        if live.is_empty() {
            return Vec::new();
        }
        let mut places = vec![NOWHERE; self.nodes.len()];
        for (place, &node) in live.iter().enumerate() {
            places[node as usize] = place as u32;
        }
        let pieces = live.par_chunks(NODES).enumerate().map(|(nth, nodes)| {
            let mut groups = Vec::new();
            let mut first = nth * NODES;
            let mut writer = self.writer(BY_PLACE, first as u64);
            for &node in nodes {
                let own = i64::from(places[node as usize]);
                let name = |link: u32| match places[link as usize] {
                    NOWHERE => None,
                    place => Some(i64::from(place)),
                };
                self.record(graph, node, own, name, false, &mut writer);
                if writer.len() >= GROUP_BYTES {
                    first += writer.records as usize;
                    let next = self.writer(BY_PLACE, first as u64);
                    groups.push(std::mem::replace(&mut writer, next).finish());
                }
            }
            if writer.records > 0 {
                groups.push(writer.finish());
            }
            groups
        });
        let mut groups = pieces.collect::<Vec<Vec<Vec<u8>>>>().concat();
        groups.push(self.sample_group(graph, &live, &groups));
        groups
    }

    /// Groups that say what the nodes of these rows are linked to; rows that have gone since, and
    /// those that share another row's node, are left out.
    pub(crate) fn hints_of(&self, rows: &[(Slot, RowId)]) -> Vec<Vec<u8>> {
        let mut groups = Vec::new();
        let Some(graph) = &self.graph else {
            return groups;
        };
        let mut writer = self.writer(BY_ROW_ID, 0);
        for &(slot, id) in rows {
            let row = self.rows.node(slot);
            let node =
                row.filter(|&node| self.rows.id(slot) == Some(id) && self.first_row(node) == id);
            if let Some(node) = node {
                let own = id.get().cast_signed();
                let name = |link: u32| {
                    let lives = !self.nodes.is(link, DEAD);
                    lives.then(|| self.first_row(link).get().cast_signed())
                };
                self.record(graph, node, own, name, true, &mut writer);
            }
            if writer.len() >= GROUP_BYTES {
                let next = self.writer(BY_ROW_ID, 0);
                groups.push(std::mem::replace(&mut writer, next).finish());
            }
        }
        if writer.records > 0 {
            groups.push(writer.finish());
        }
        groups
    }

    /// Adds the record of a node that is called `own`, with those of its links that have a name,
    /// and whether they are mutual where the other node's record does not tell of them.
    fn record(
        &self,
        graph: &Graph,
        node: u32,
        own: i64,
        name: impl Fn(u32) -> Option<i64>,
        tells_mutual: bool,
        writer: &mut Writer,
    ) {
        let level = self.nodes.level(node);
        writer.record(self.first_row(node), level, own, |level, list| {
            for link in graph.links(level, node).iter() {
                let Some(other) = name(link) else {
                    continue;
                };
                if tells_mutual && graph.links(level, link).contains(node) {
                    list.mutual.push(other);
                } else {
                    list.one_way.push(other);
                }
            }
        });
    }

    fn writer(&self, kind: u8, first: u64) -> Writer {
        let mut nodes = Vec::with_capacity(GROUP_BYTES + 4_096);
        nodes.push(kind);
        nodes.extend(self.hint_fingerprint().to_le_bytes());
        nodes.extend(first.to_le_bytes());
        nodes.extend(0u32.to_le_bytes());
        Writer {
            nodes,
            lists: Vec::with_capacity(GROUP_BYTES + 4_096),
            records: 0,
            before: 0,
            list: List::default(),
        }
    }
}

/// The links of one list, by place or row id.
#[derive(Default)]
struct List {
    mutual: Vec<i64>,
    one_way: Vec<i64>,
}

/// A group that is being written.
struct Writer {
    /// The head, and which nodes the records are about.
    nodes: Vec<u8>,
    /// Their lists.
    lists: Vec<u8>,
    records: u32,
    before: i64,
    list: List,
}

impl Writer {
    fn len(&self) -> usize {
        self.nodes.len() + self.lists.len()
    }

    /// Adds the record of a node; `fill` tells a level's links, which are near `own`.
    fn record(&mut self, id: RowId, level: u8, own: i64, fill: impl Fn(u8, &mut List)) {
        let id = id.get().cast_signed();
        put(&mut self.nodes, zigzag(id - self.before));
        put(&mut self.nodes, u64::from(level));
        self.before = id;
        self.records += 1;
        for level in 0..=level {
            self.list.mutual.clear();
            self.list.one_way.clear();
            fill(level, &mut self.list);
            put(&mut self.lists, self.list.mutual.len() as u64);
            put(&mut self.lists, self.list.one_way.len() as u64);
            put_links(&mut self.lists, own, &mut self.list.mutual);
            put_links(&mut self.lists, own, &mut self.list.one_way);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.nodes[HEAD_LEN - 4..HEAD_LEN].copy_from_slice(&self.records.to_le_bytes());
        self.nodes.append(&mut self.lists);
        self.nodes
    }
}

/// Numbers in ascending order, the first from `own`, each further from the one before.
fn put_links(bytes: &mut Vec<u8>, own: i64, links: &mut [i64]) {
    links.sort_unstable();
    let mut before: Option<i64> = None;
    for &link in &*links {
        match before {
            None => put(bytes, zigzag(link - own)),
            Some(before) => put(bytes, (link - before).cast_unsigned()),
        }
        before = Some(link);
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
