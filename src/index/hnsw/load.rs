//! Loading: rows come in any order, and each is seated where a log of links has its place, if
//! there is one. What is loaded is linked by `build`.

use super::super::twins::CodeHash;
use super::graph::Graph;
use super::hints::{Linked, Log};
use super::{Hnsw, bulk};
use crate::encoding::EncodedView;
use crate::error::IndexError;
use crate::ids::{RowId, Slot};
use crate::limits;

/// What a load keeps until it is over.
#[derive(Default)]
pub(super) struct Load {
    log: Option<Log>,
    /// Rows that room was made for.
    expected: usize,
    /// Whether there were hints, of use or not.
    hinted: bool,
    /// Nodes that may have twins.
    seated: Vec<(CodeHash, u32)>,
    /// Numbers beyond the log's that fell vacant.
    vacant: Vec<u32>,
}

/// What is to be found so that loaded rows are linked.
pub(crate) enum HnswJob {
    /// The graph that a log tells of.
    Hints(Log),
    /// The order in which a graph is best built.
    Order,
    /// All links.
    All,
    /// Nothing: a scan is faster than a graph.
    Nothing,
}

/// What was found.
pub(crate) enum HnswFound {
    Graph(Box<Graph>, Linked),
    /// The log is of no use.
    Refused,
    Order(Vec<u32>),
    Nothing,
}

impl Hnsw {
    /// Makes room for this many rows.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
        self.nodes.reserve(rows);
        self.stored.reserve(rows);
        self.load.expected = rows;
    }

    /// Takes what hints that an index of these rows once gave tell of them, whatever became of the
    /// rows since.
    pub(crate) fn expect(&mut self, hints: Vec<Vec<u8>>) {
        self.load.hinted = !hints.is_empty();
        let log = Log::read(self.hint_fingerprint(), hints, self.load.expected);
        if let Some(log) = &log {
            self.nodes.keep_seats(log.places());
        }
        self.load.log = log;
    }

    /// Asks for the memory that loading the row with this id will write.
    #[inline]
    pub(crate) fn foresee(&self, id: RowId) {
        if let Some(log) = &self.load.log
            && let Some(place) = log.place_of(id)
        {
            self.nodes.prefetch(place);
        }
    }

    pub(crate) fn load(&mut self, slot: Slot, id: RowId, vector: EncodedView<'_>) {
        let Self {
            rows,
            nodes,
            stored,
            scratches,
            load,
            ..
        } = self;
        scratches.lend(|scratch| {
            let point = scratch.coder.encode(vector);
            let record = stored.record(vector, point);
            let place = load.log.as_ref().and_then(|log| log.place_of(id));
            let place = place.filter(|&place| nodes.is_vacant(place));
            let place = place.or_else(|| load.vacant.pop());
            let node = place.unwrap_or(nodes.len() as u32);
            let hash = nodes.seat(node, point, slot);
            rows.put_shown(slot, id, node);
            stored.put(slot, &record);
            load.seated.push((hash, node));
        });
    }

    /// Joins the nodes of equal codes among those seated since this was last called.
    pub(crate) fn join_twins(&mut self) {
        let Load {
            log,
            seated,
            vacant,
            ..
        } = &mut self.load;
        let kept = log.as_ref().map_or(0, Log::places) as u32;
        let alike = |a, b| self.stored.are_alike(a, b);
        self.nodes
            .join_twins(seated, kept, &mut self.rows, alike, |node| {
                if node >= kept {
                    vacant.push(node);
                }
            });
        // Rows may have changed their nodes under a scan.
        self.version += 1;
    }

    /// Ends the load: every node has its code to itself. Numbers that stayed vacant are free, and
    /// the log knows of them. Levels are still to be drawn, once each node's first row is known.
    pub(super) fn settle(&mut self) -> Option<Log> {
        self.join_twins();
        let load = std::mem::take(&mut self.load);
        self.load.hinted = load.hinted;
        let mut log = load.log;
        for &vacant in self.nodes.settle(&self.rows) {
            if let Some(log) = &mut log {
                log.vacate(vacant);
            }
        }
        log
    }

    /// Closes the gaps between nodes, none of which is linked.
    fn close_up(&mut self) {
        self.nodes.close_up(&mut self.rows);
        self.version += 1;
    }

    /// Ends the load, and says what is to be found so that the rows are linked.
    pub(crate) fn begin_build(&mut self) -> HnswJob {
        let log = self.settle();
        if self.nodes.live() < limits::GRAPH_MIN {
            self.close_up();
            let order = self.nodes.by_row_id(&self.rows);
            self.renumber(&order);
            self.draw_levels(0);
            return HnswJob::Nothing;
        }
        match log.filter(|log| self.take_levels(log)) {
            Some(log) => HnswJob::Hints(log),
            None => {
                self.close_up();
                HnswJob::Order
            }
        }
    }

    /// Finds what is to be found, aside.
    pub(crate) fn find_links(
        &self,
        job: HnswJob,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<HnswFound, IndexError> {
        let live = self.nodes.live();
        match job {
            HnswJob::Hints(log) => Ok(match self.restore(log, progress)? {
                Some((graph, linked)) => HnswFound::Graph(Box::new(graph), linked),
                None => HnswFound::Refused,
            }),
            HnswJob::Order => {
                let order = self.nodes.by_row_id(&self.rows);
                Ok(HnswFound::Order(bulk::arrange(&self.parts(), &order)))
            }
            HnswJob::All => {
                let graph = bulk::build(&self.parts(), progress)?;
                let linked = Linked {
                    refused: self.load.hinted,
                    ..Linked::default()
                };
                Ok(HnswFound::Graph(Box::new(graph), linked))
            }
            HnswJob::Nothing if progress(live, live) => Ok(HnswFound::Nothing),
            HnswJob::Nothing => Err(IndexError::Cancelled),
        }
    }

    /// Puts what was found in place; what is to be found next, as an error, unless that was all.
    pub(crate) fn end_build(&mut self, found: HnswFound) -> Result<Linked, HnswJob> {
        self.version += 1;
        match found {
            HnswFound::Graph(graph, linked) => {
                self.graph = Some(*graph);
                Ok(linked)
            }
            HnswFound::Refused => {
                self.close_up();
                Err(HnswJob::Order)
            }
            HnswFound::Order(order) => {
                self.renumber(&order);
                self.draw_levels(0);
                Err(HnswJob::All)
            }
            HnswFound::Nothing => Ok(Linked::default()),
        }
    }

    /// All of it at once.
    #[cfg(test)]
    pub(super) fn build(
        &mut self,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Linked, IndexError> {
        let mut job = self.begin_build();
        loop {
            let found = self.find_links(job, progress)?;
            match self.end_build(found) {
                Ok(linked) => return Ok(linked),
                Err(next) => job = next,
            }
        }
    }

    /// Numbers the nodes, none of which is linked, in this order.
    pub(super) fn renumber(&mut self, order: &[u32]) {
        let new_of_old = self.nodes.renumber(order);
        self.rows.renumber(&new_of_old);
    }

    /// Draws the levels of the nodes from `first` on.
    pub(super) fn draw_levels(&mut self, first: u32) {
        for node in first..self.nodes.len() as u32 {
            let level = self.level_of(self.first_row(node));
            self.nodes.set_level(node, level);
        }
    }
}
