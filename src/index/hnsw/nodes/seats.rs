//! Filling an empty set of nodes: every row has a seat of its own until twins are found, many at a
//! time, which is faster than to look for one after another.

use super::super::super::arena::{grow, keep};
use super::super::super::codes::Point;
use super::super::super::rows::Rows;
use super::super::super::twins::CodeHash;
use super::{FREE, NONE, Nodes, SHARED};
use crate::ids::Slot;
use crate::kernel::prefetch;

impl Nodes {
    /// Keeps these numbers for nodes that are seated at them; those that stay vacant are free after
    /// [`Nodes::settle`].
    pub(in super::super) fn keep_seats(&mut self, seats: usize) {
        self.codes.grow(seats);
        grow(&mut self.members, seats, NONE);
        grow(&mut self.states, seats, 0);
    }

    /// Whether nobody has this seat.
    #[inline]
    pub(in super::super) fn is_vacant(&self, node: u32) -> bool {
        self.members[node as usize] == NONE
    }

    /// Asks for the seat that a row is about to take.
    #[inline]
    pub(in super::super) fn prefetch(&self, node: u32) {
        self.codes.prefetch(node);
        if let Some(member) = self.members.get(node as usize) {
            prefetch(std::slice::from_ref(member));
        }
    }

    /// Makes the row in `slot` a node of its own, at a vacant number or the next one, whether or
    /// not its code has a twin; returns the code's hash.
    pub(in super::super) fn seat(&mut self, node: u32, point: Point<'_>, slot: Slot) -> CodeHash {
        self.codes.put(node, point);
        self.lift = self.lift.max(self.lift_of(point));
        grow(&mut self.members, self.codes.len(), NONE);
        grow(&mut self.states, self.codes.len(), 0);
        self.members[node as usize] = slot.raw();
        CodeHash::of(point)
    }

    /// Joins nodes, seated since this was last called, with those of equal codes, and tells the
    /// numbers that fall vacant. Numbers below `kept` stay before others. `are_alike` tells whether
    /// two rows are stored alike.
    pub(in super::super) fn join_twins(
        &mut self,
        seated: &mut Vec<(CodeHash, u32)>,
        kept: u32,
        rows: &mut Rows,
        are_alike: impl Fn(Slot, Slot) -> bool,
        mut vacate: impl FnMut(u32),
    ) {
        self.twins.arrange(seated);
        for (hash, node) in seated.drain(..) {
            let point = self.codes.point(node);
            let Some(other) = self.twins.find(&self.codes, point, hash) else {
                self.twins.insert(&self.codes, node, hash);
                continue;
            };
            // Which of two that are not kept does not matter; that both are, only a file has that
            // is not ours.
            let [a, b] = [node, other].map(|node| Slot::from_raw(self.slots(node)[0]));
            let mixed = self.is_mixed(node) || self.is_mixed(other) || !are_alike(a, b);
            let (from, into) = if node < kept && other >= kept {
                self.twins.replace(&self.codes, other, node, hash);
                (other, node)
            } else {
                (node, other)
            };
            self.join(from, into, rows);
            if mixed {
                self.mix(into);
            }
            vacate(from);
        }
    }

    /// Gives the rows of a node to another, and its number up.
    fn join(&mut self, node: u32, other: u32, rows: &mut Rows) {
        for &slot in self.slots(node) {
            rows.set_node(Slot::from_raw(slot), other);
        }
        let from = std::mem::replace(&mut self.members[node as usize], NONE);
        let into = self.members[other as usize];
        self.members[other as usize] = match (into & SHARED != 0, from & SHARED != 0) {
            (false, false) => SHARED | self.share(vec![into, from]),
            (true, false) => {
                self.shared[(into & !SHARED) as usize].push(from);
                into
            }
            (false, true) => {
                self.shared[(from & !SHARED) as usize].push(into);
                from
            }
            (true, true) => {
                let mut more = std::mem::take(&mut self.shared[(from & !SHARED) as usize]);
                self.shared_free.push(from & !SHARED);
                self.shared[(into & !SHARED) as usize].append(&mut more);
                into
            }
        };
    }

    /// Ends the seating: numbers that nobody took are free. Returns them, in ascending order.
    pub(in super::super) fn settle(&mut self, rows: &Rows) -> &[u32] {
        self.order_rows(rows);
        for (node, &member) in (0..).zip(&self.members) {
            if member == NONE {
                self.states[node as usize] = FREE;
                self.free.push(node);
            }
        }
        &self.free
    }

    /// Gives up all numbers from `len` on, which are free.
    pub(in super::super) fn truncate(&mut self, len: usize) {
        debug_assert!((len..self.len()).all(|node| self.is_free(node as u32)));
        self.codes.truncate(len);
        self.members.truncate(len);
        self.states.truncate(len);
        self.free.retain(|&node| (node as usize) < len);
    }

    /// Closes the gaps that free numbers leave between nodes that are all live.
    pub(in super::super) fn close_up(&mut self, rows: &mut Rows) {
        if self.free.is_empty() {
            return;
        }
        self.free = Vec::new();
        let seated: Vec<u32> = self.live_nodes().collect();
        let mut numbers = vec![NONE; self.len()];
        for (new, &old) in (0..).zip(&seated) {
            numbers[old as usize] = new;
        }
        self.codes.keep(&seated);
        keep(&mut self.members, &seated);
        keep(&mut self.states, &seated);
        self.twins.renumber(&numbers);
        rows.renumber(&numbers);
    }
}
