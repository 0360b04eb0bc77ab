//! The nodes of a graph: one per distinct code, with the rows that share it. `seats` is how an open
//! fills them.

mod seats;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::arena::{bytes_of_vec, grow};
use super::super::codes::{Codes, Geometry, Point};
use super::super::rows::Rows;
use super::super::twins::{CodeHash, Twins};
use crate::distance::Distance;
use crate::ids::{RowId, Slot};
use crate::kernel::prefetch;

/// Highest level a node can be drawn: with `m` of 2, a level for every bit of a row count.
pub(super) const LEVEL_MAX: u8 = 30;

/// State bits above the level: a node without rows, and one whose rows are all hidden.
pub(super) const DEAD: u8 = 1 << 5;
pub(super) const HIDDEN: u8 = 1 << 6;
/// The state of a number that waits to be used again.
const FREE: u8 = DEAD | 1 << 7;
const LEVEL: u8 = DEAD - 1;

/// Marks a node without rows.
const NONE: u32 = u32::MAX;
/// Set where a node's rows are a list in `shared`, and its place is in the other bits.
const SHARED: u32 = 1 << 31;

/// Codes, their rows and their states, by node.
pub(super) struct Nodes {
    pub(super) codes: Codes,
    /// Finds the node of a code: the live one, or a dead one that may live again.
    twins: Twins,
    /// The slot of the only row, or `SHARED` and a place, or `NONE`.
    members: Vec<u32>,
    /// Slots of nodes with several rows, in the order of row ids.
    shared: Vec<Vec<u32>>,
    /// Whether rows of such a node may be stored differently, by the place of their list.
    mixed: Vec<bool>,
    shared_free: Vec<u32>,
    states: Vec<u8>,
    free: Vec<u32>,
    dead: usize,
    /// Greatest squared length of a code so far, under DotProduct.
    lift: f32,
    /// Nodes to look at again when the limit of what is visible moves.
    hidden: Vec<u32>,
}

impl Nodes {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            codes: Codes::new(geometry),
            twins: Twins::default(),
            members: Vec::new(),
            shared: Vec::new(),
            mixed: Vec::new(),
            shared_free: Vec::new(),
            states: Vec::new(),
            free: Vec::new(),
            dead: 0,
            lift: 0.0,
            hidden: Vec::new(),
        }
    }

    /// Numbers given out so far: live, dead and free nodes.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Nodes with rows.
    pub(super) fn live(&self) -> usize {
        self.len() - self.dead - self.free.len()
    }

    /// Nodes without rows that links may still lead to.
    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    pub(super) fn reserve(&mut self, nodes: usize) {
        self.codes.reserve(nodes);
        self.twins.reserve(&self.codes, nodes);
        self.members.reserve_exact(nodes);
        self.states.reserve_exact(nodes);
    }

    /// Those of `bits` that some node may have to which a link leads: where there are none, states
    /// need not be read. No link leads to a free node, which has them as well.
    pub(super) fn marks(&self, bits: u8) -> u8 {
        let dead = if self.dead == 0 { 0 } else { DEAD };
        let hidden = if self.hidden.is_empty() { 0 } else { HIDDEN };
        bits & (dead | hidden)
    }

    /// What makes keys comparable by a factor: the greatest squared length of a code so far under
    /// DotProduct, 0 under other distances.
    pub(super) fn lift(&self) -> f32 {
        self.lift
    }

    /// What a code would make of [`Nodes::lift`] alone.
    pub(super) fn lift_of(&self, point: Point<'_>) -> f32 {
        match self.codes.geometry.distance {
            Distance::DotProduct => self.codes.geometry.row_terms(point.terms).own,
            Distance::Euclidean | Distance::Cosine => 0.0,
        }
    }

    #[inline]
    pub(super) fn point(&self, node: u32) -> Point<'_> {
        self.codes.point(node)
    }

    /// Whether a node's state has any of these bits.
    #[inline]
    pub(super) fn is(&self, node: u32, bits: u8) -> bool {
        self.states[node as usize] & bits != 0
    }

    pub(super) fn is_free(&self, node: u32) -> bool {
        self.states[node as usize] & FREE == FREE
    }

    pub(super) fn level(&self, node: u32) -> u8 {
        self.states[node as usize] & LEVEL
    }

    /// Live nodes in ascending order.
    pub(super) fn live_nodes(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len() as u32).filter(|&node| !self.is(node, DEAD))
    }

    /// Dead nodes in ascending order, without the free ones.
    pub(super) fn dead_nodes(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len() as u32).filter(|&node| self.is(node, DEAD) && !self.is_free(node))
    }

    /// The node of a code: the live one, or one whose rows are gone and that a new row brings back
    /// to life.
    pub(super) fn find(&self, point: Point<'_>) -> Option<u32> {
        self.twins.find(&self.codes, point, CodeHash::of(point))
    }

    /// The number that the `nth` new node from now on will have.
    pub(super) fn nth_new(&self, nth: usize) -> u32 {
        match self.free.len().checked_sub(nth + 1) {
            Some(place) => self.free[place],
            None => (self.len() + nth - self.free.len()) as u32,
        }
    }

    /// Makes a node of a code that has no twin.
    pub(super) fn create(&mut self, point: Point<'_>, level: u8) -> u32 {
        self.add(point, level, CodeHash::of(point))
    }

    fn add(&mut self, point: Point<'_>, level: u8, hash: CodeHash) -> u32 {
        let node = self.free.pop().unwrap_or(self.len() as u32);
        self.codes.put(node, point);
        self.lift = self.lift.max(self.lift_of(point));
        self.twins.insert(&self.codes, node, hash);
        let len = self.len().max(node as usize + 1);
        grow(&mut self.members, len, NONE);
        grow(&mut self.states, len, 0);
        self.members[node as usize] = NONE;
        self.states[node as usize] = level;
        node
    }

    /// Slots of a node's rows, in the order of their ids once the index is built.
    #[inline]
    pub(super) fn slots(&self, node: u32) -> &[u32] {
        let member = &self.members[node as usize];
        if *member == NONE {
            &[]
        } else if *member & SHARED != 0 {
            &self.shared[(*member & !SHARED) as usize]
        } else {
            std::slice::from_ref(member)
        }
    }

    /// Asks for what [`Self::slots`] will read.
    #[inline]
    pub(super) fn prefetch_slots(&self, node: u32) {
        prefetch(&self.members[node as usize..=node as usize]);
    }

    /// Whether rows of a node may be stored differently, though they share a code.
    #[inline]
    pub(super) fn is_mixed(&self, node: u32) -> bool {
        let member = self.members[node as usize];
        member != NONE && member & SHARED != 0 && self.mixed[(member & !SHARED) as usize]
    }

    /// Remembers that rows of a node are stored differently, for as long as it has several.
    fn mix(&mut self, node: u32) {
        let member = self.members[node as usize];
        if member != NONE && member & SHARED != 0 {
            self.mixed[(member & !SHARED) as usize] = true;
        }
    }

    /// Adds a row to a node, behind those it has. `are_alike` tells whether two rows are stored
    /// alike.
    pub(super) fn attach(
        &mut self,
        node: u32,
        slot: Slot,
        rows: &Rows,
        are_alike: impl Fn(Slot, Slot) -> bool,
    ) {
        let first = self.slots(node).first().copied().map(Slot::from_raw);
        self.add_row(node, slot, rows);
        if first.is_some_and(|first| !are_alike(first, slot)) {
            self.mix(node);
        }
    }

    fn add_row(&mut self, node: u32, slot: Slot, rows: &Rows) {
        let member = self.members[node as usize];
        if member == NONE {
            self.members[node as usize] = slot.raw();
            if self.is(node, DEAD) {
                self.states[node as usize] &= !DEAD;
                self.dead -= 1;
            }
            self.see(node, rows);
        } else if member & SHARED != 0 {
            self.shared[(member & !SHARED) as usize].push(slot.raw());
        } else {
            let pair = vec![member, slot.raw()];
            self.members[node as usize] = SHARED | self.share(pair);
        }
    }

    fn share(&mut self, slots: Vec<u32>) -> u32 {
        if let Some(place) = self.shared_free.pop() {
            self.shared[place as usize] = slots;
            self.mixed[place as usize] = false;
            return place;
        }
        self.shared.push(slots);
        self.mixed.push(false);
        (self.shared.len() - 1) as u32
    }

    /// Takes the row in `slot`, which is still in `rows`, from its node; a node without rows dies.
    pub(super) fn detach(&mut self, node: u32, slot: Slot, rows: &Rows) {
        let member = self.members[node as usize];
        if member & SHARED == 0 {
            self.members[node as usize] = NONE;
            let state = &mut self.states[node as usize];
            *state = *state & !HIDDEN | DEAD;
            self.dead += 1;
            return;
        }
        let place = member & !SHARED;
        let slots = &mut self.shared[place as usize];
        let id_of = |slot: &u32| rows.id(Slot::from_raw(*slot));
        if let Ok(position) = slots.binary_search_by_key(&rows.id(slot), id_of) {
            slots.remove(position);
        }
        if let [last] = slots[..] {
            self.members[node as usize] = last;
            self.shared[place as usize] = Vec::new();
            self.shared_free.push(place);
        }
        self.see(node, rows);
    }

    /// Hides a live node whose first row is hidden, and shows it otherwise.
    fn see(&mut self, node: u32, rows: &Rows) {
        let first = self.slots(node).first();
        let shown = first.is_some_and(|&slot| rows.visible(Slot::from_raw(slot)).is_some());
        let was_hidden = self.is(node, HIDDEN);
        let state = &mut self.states[node as usize];
        if shown {
            *state &= !HIDDEN;
        } else {
            *state |= HIDDEN;
            if !was_hidden {
                self.hidden.push(node);
            }
        }
    }

    /// Follows the limit of what is visible; `lowered` when it may have moved down.
    pub(super) fn publish(&mut self, rows: &Rows, lowered: bool) {
        let mut pending = std::mem::take(&mut self.hidden);
        if lowered {
            pending = self.live_nodes().collect();
        }
        for node in pending {
            self.states[node as usize] &= !HIDDEN;
            if !self.is(node, DEAD) {
                self.see(node, rows);
            }
        }
    }

    /// No new row brings these dead nodes back to life: from now on links to them are taken out.
    pub(super) fn doom(&mut self, nodes: &[u32]) {
        for &node in nodes {
            debug_assert!(self.is(node, DEAD));
            self.twins.remove(&self.codes, node);
        }
    }

    /// Lets the numbers of doomed nodes, which no link leads to any more, be used again.
    pub(super) fn release(&mut self, nodes: &[u32]) {
        for &node in nodes {
            debug_assert!(self.is(node, DEAD) && !self.is_free(node));
            self.states[node as usize] = FREE;
            self.free.push(node);
            self.dead -= 1;
        }
    }

    /// Brings the rows of each node into the order of their ids.
    fn order_rows(&mut self, rows: &Rows) {
        for slots in &mut self.shared {
            slots.sort_unstable_by_key(|&slot| rows.id(Slot::from_raw(slot)));
        }
    }

    /// The nodes, all live, in the order of their first rows' ids, to which no order of loading
    /// matters.
    pub(super) fn by_row_id(&self, rows: &Rows) -> Vec<u32> {
        let id_of = |slot: u32| rows.id(Slot::from_raw(slot)).unwrap_or_default();
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_unstable_by_key(|&node| self.slots(node).first().map(|&slot| id_of(slot)));
        order
    }

    /// Numbers the nodes, none of them dead or hidden, in this order; returns the new number of every
    /// old one.
    pub(super) fn renumber(&mut self, order: &[u32]) -> Vec<u32> {
        self.codes.permute(order);
        self.members = permuted(&self.members, order);
        self.states = permuted(&self.states, order);
        let mut new_of_old = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            new_of_old[old as usize] = new as u32;
        }
        self.free
            .iter_mut()
            .for_each(|free| *free = new_of_old[*free as usize]);
        self.twins.renumber(&new_of_old);
        new_of_old
    }

    /// Draws the level of the node whose first row has this id.
    pub(super) fn draw_level(seed: u64, m: usize, id: RowId) -> u8 {
        let hash = xxh3_64_with_seed(&id.get().to_le_bytes(), seed);
        let m = m as u64;
        let (mut level, mut threshold) = (0, u64::MAX / m);
        while hash < threshold && level < LEVEL_MAX {
            level += 1;
            threshold /= m;
        }
        level
    }

    pub(super) fn set_level(&mut self, node: u32, level: u8) {
        self.states[node as usize] = self.states[node as usize] & !LEVEL | level;
    }

    /// What does not hold, a sentence each.
    pub(super) fn check(&self, rows: &Rows) -> Vec<String> {
        let mut wrong = Vec::new();
        let (mut attached, mut found) = (0, 0);
        for node in 0..self.len() as u32 {
            let slots = self.slots(node);
            attached += slots.len();
            if slots.is_empty() != self.is(node, DEAD) {
                wrong.push(format!(
                    "node {node} has {} rows and the wrong state",
                    slots.len()
                ));
            }
            let ids: Vec<_> = slots
                .iter()
                .map(|&slot| rows.id(Slot::from_raw(slot)))
                .collect();
            if !ids.is_sorted() {
                wrong.push(format!("the rows of node {node} are out of order"));
            }
            if slots
                .iter()
                .any(|&slot| rows.node(Slot::from_raw(slot)) != Some(node))
            {
                wrong.push(format!("node {node} lists a row of another node"));
            }
            if !self.is_free(node) && self.find(self.point(node)) == Some(node) {
                found += 1;
            } else if !slots.is_empty() {
                wrong.push(format!("node {node} is not the node of its code"));
            }
        }
        let all = 0..self.len() as u32;
        let hidden = all.filter(|&node| self.is(node, HIDDEN)).count();
        let mut noted = self.hidden.clone();
        noted.retain(|&node| self.is(node, HIDDEN));
        noted.sort_unstable();
        noted.dedup();
        let noted = noted.len();
        let counts = [
            ("rows attached to nodes", attached, rows.len()),
            ("occupied slots", rows.occupied().count(), rows.len()),
            ("codes with a node", self.twins.len(), found),
            ("dead nodes", self.dead_nodes().count(), self.dead),
            ("hidden nodes", hidden, noted),
            ("codes", self.codes.len(), self.len()),
        ];
        for (what, found, expected) in counts {
            if found != expected {
                wrong.push(format!("{found} {what}, where {expected} are counted"));
            }
        }
        wrong
    }

    /// Allocated bytes, without the codes.
    pub(super) fn memory(&self) -> usize {
        let shared: usize = self.shared.iter().map(bytes_of_vec).sum();
        self.twins.memory()
            + shared
            + bytes_of_vec(&self.shared)
            + bytes_of_vec(&self.mixed)
            + bytes_of_vec(&self.shared_free)
            + bytes_of_vec(&self.members)
            + bytes_of_vec(&self.states)
            + bytes_of_vec(&self.free)
            + bytes_of_vec(&self.hidden)
    }
}

fn permuted<T: Copy>(values: &[T], order: &[u32]) -> Vec<T> {
    order.iter().map(|&old| values[old as usize]).collect()
}
