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
                // A mutual link stands in the list of the later of its two nodes.
                self.record(graph, node, own, name, |other| other < own, &mut writer);
                if writer.bytes.len() >= GROUP_BYTES {
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
        pieces.collect::<Vec<Vec<Vec<u8>>>>().concat()
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
                self.record(graph, node, own, name, |_| true, &mut writer);
            }
            if writer.bytes.len() >= GROUP_BYTES {
                let next = self.writer(BY_ROW_ID, 0);
                groups.push(std::mem::replace(&mut writer, next).finish());
            }
        }
        if writer.records > 0 {
            groups.push(writer.finish());
        }
        groups
    }

    /// Adds the record of a node that is called `own`, with those of its links that have a name;
    /// of mutual ones those that `tells`.
    fn record(
        &self,
        graph: &Graph,
        node: u32,
        own: i64,
        name: impl Fn(u32) -> Option<i64>,
        tells: impl Fn(i64) -> bool,
        writer: &mut Writer,
    ) {
        let level = self.nodes.level(node);
        writer.record(self.first_row(node), level, own, |level, list| {
            for &link in graph.links(level, node) {
                let Some(other) = name(link) else {
                    continue;
                };
                if !graph.links(level, link).contains(&node) {
                    list.one_way.push(other);
                } else if tells(other) {
                    list.mutual.push(other);
                }
            }
        });
    }

    fn writer(&self, kind: u8, first: u64) -> Writer {
        let mut bytes = Vec::with_capacity(GROUP_BYTES + 4_096);
        bytes.push(kind);
        bytes.extend(self.hint_fingerprint().to_le_bytes());
        bytes.extend(first.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        Writer {
            bytes,
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
    bytes: Vec<u8>,
    records: u32,
    before: i64,
    list: List,
}

impl Writer {
    /// Adds the record of a node; `fill` tells a level's links, which are near `own`.
    fn record(&mut self, id: RowId, level: u8, own: i64, fill: impl Fn(u8, &mut List)) {
        let id = id.get().cast_signed();
        self.number(zigzag(id - self.before));
        self.before = id;
        self.number(u64::from(level));
        self.records += 1;
        let mut list = std::mem::take(&mut self.list);
        for level in 0..=level {
            list.mutual.clear();
            list.one_way.clear();
            fill(level, &mut list);
            self.number(list.mutual.len() as u64);
            self.number(list.one_way.len() as u64);
            self.numbers(own, &mut list.mutual);
            self.numbers(own, &mut list.one_way);
        }
        self.list = list;
    }

    /// Numbers in ascending order, the first from `own`, each further from the one before.
    fn numbers(&mut self, own: i64, numbers: &mut [i64]) {
        numbers.sort_unstable();
        let mut before: Option<i64> = None;
        for &number in &*numbers {
            match before {
                None => self.number(zigzag(number - own)),
                Some(before) => self.number((number - before).cast_unsigned()),
            }
            before = Some(number);
        }
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[HEAD_LEN - 4..HEAD_LEN].copy_from_slice(&self.records.to_le_bytes());
        self.bytes
    }
}
