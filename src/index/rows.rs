//! What a table's slots hold: the row's id and the node its code belongs to.

use super::arena::{bytes_of_vec, grow};
use super::row_ids::RowIds;
use crate::ids::{RowId, Slot};
use crate::kernel;

/// Marks a slot without a row.
const VACANT: u32 = u32::MAX;

/// Rows by slot.
#[derive(Default)]
pub(super) struct Rows {
    ids: RowIds,
    nodes: Vec<u32>,
    occupied: usize,
    /// Rows with this id and beyond are hidden.
    pub(super) limit: RowId,
}

impl Rows {
    /// Slots, vacant ones included.
    pub(super) fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// Occupied slots.
    pub(super) fn len(&self) -> usize {
        self.occupied
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.ids.reserve(rows);
        self.nodes.reserve_exact(rows);
    }

    /// Writes a row into a vacant slot.
    pub(super) fn put(&mut self, slot: Slot, id: RowId, node: u32) {
        debug_assert!(self.id(slot).is_none(), "slot {} is taken", slot.index());
        let index = slot.index();
        self.ids.put(index, id, taken(&self.nodes));
        grow(&mut self.nodes, index + 1, VACANT);
        self.nodes[index] = node;
        self.occupied += 1;
    }

    /// Empties a slot.
    pub(super) fn take(&mut self, slot: Slot) {
        if self.id(slot).is_some() {
            self.nodes[slot.index()] = VACANT;
            self.occupied -= 1;
        }
    }

    pub(super) fn id(&self, slot: Slot) -> Option<RowId> {
        self.node(slot).map(|_| self.ids.get(slot.index()))
    }

    /// The id of a row that is not hidden.
    pub(super) fn visible(&self, slot: Slot) -> Option<RowId> {
        self.id(slot).filter(|&id| id < self.limit)
    }

    /// Asks for what [`Self::visible`] will read.
    #[inline]
    pub(super) fn prefetch(&self, slot: Slot) {
        self.ids.prefetch(slot.index());
        if let Some(node) = self.nodes.get(slot.index()) {
            kernel::prefetch(std::slice::from_ref(node));
        }
    }

    pub(super) fn node(&self, slot: Slot) -> Option<u32> {
        let node = self.nodes.get(slot.index()).copied();
        node.filter(|&node| node != VACANT)
    }

    /// Tells every row where its node is now.
    pub(super) fn renumber(&mut self, new_of_old: &[u32]) {
        for node in self.nodes.iter_mut().filter(|node| **node != VACANT) {
            *node = new_of_old[*node as usize];
        }
    }

    /// Occupied slots.
    pub(super) fn occupied(&self) -> impl Iterator<Item = Slot> + '_ {
        taken(&self.nodes).map(Slot::new)
    }

    /// As `put`, and shows the row and all with lower ids.
    pub(super) fn put_shown(&mut self, slot: Slot, id: RowId, node: u32) {
        self.put(slot, id, node);
        let beyond = RowId::new(id.get().saturating_add(1));
        self.limit = self.limit.max(beyond);
    }

    /// Says which node the row in an occupied slot belongs to.
    pub(super) fn set_node(&mut self, slot: Slot, node: u32) {
        self.nodes[slot.index()] = node;
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.ids.memory() + bytes_of_vec(&self.nodes)
    }
}

/// Places that are not vacant.
fn taken(nodes: &[u32]) -> impl Iterator<Item = usize> + '_ {
    let places = nodes.iter().enumerate();
    let taken = places.filter(|&(_, &node)| node != VACANT);
    taken.map(|(place, _)| place)
}
