//! The lists of one level above 0: few nodes have one, and a hash tells where.

use super::super::arena::{Arena, bytes_of_vec, grow};
use super::graph::{bottom, widen};
use super::list::{Layout, Links};
use crate::numbers::Numbers;

/// Lists by numbers of their own.
pub(super) struct Upper {
    layout: Layout,
    lists: Arena<u8>,
    /// The node that each list belongs to, or belonged to before it was freed.
    owners: Vec<u32>,
    by_node: Numbers,
    free: Vec<u32>,
}

impl Upper {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            lists: bottom(layout),
            owners: Vec::new(),
            by_node: Numbers::default(),
            free: Vec::new(),
        }
    }

    /// Makes room for the lists of this many nodes, where there are none yet.
    pub(super) fn reserve(&mut self, nodes: usize) {
        self.lists.reserve(nodes);
        self.owners.reserve_exact(nodes);
        let owners = &self.owners;
        self.by_node
            .reserve(nodes, |list| hash(owners[list as usize]));
    }

    /// The neighbours of a node; none where it has no list.
    #[inline]
    pub(super) fn links(&self, node: u32) -> Links<'_> {
        let list = self.find(node);
        list.map_or(Links::default(), |list| {
            self.layout.links(self.lists.row(list as usize))
        })
    }

    /// Asks for what reading the neighbours of a node will read.
    #[inline]
    pub(super) fn prefetch(&self, node: u32) {
        if let Some(list) = self.find(node) {
            self.lists.prefetch(list as usize);
        }
    }

    /// Adds a link to the list of a node that has one, where there is room and no such link.
    pub(super) fn add_link(&mut self, node: u32, link: u32) {
        if let Some(list) = self.find(node) {
            self.layout.add(self.lists.row_mut(list as usize), link);
        }
    }

    /// Makes room for any number in every list.
    pub(super) fn widen(&mut self) {
        let (narrow, wide) = (self.layout, self.layout.widened());
        self.layout = wide;
        let old = std::mem::replace(&mut self.lists, bottom(wide));
        widen(narrow, &old, &mut self.lists);
    }

    #[inline]
    fn find(&self, node: u32) -> Option<u32> {
        let is_own = |list: u32| self.owners[list as usize] == node;
        self.by_node.find(hash(node), is_own)
    }

    pub(super) fn set(&mut self, node: u32, links: &[u32]) {
        let list = self.find(node).unwrap_or_else(|| self.add(node));
        self.layout.write(self.lists.row_mut(list as usize), links);
    }

    fn add(&mut self, node: u32) -> u32 {
        let fresh = self.owners.len() as u32;
        let list = self.free.pop().unwrap_or(fresh);
        self.lists.grow(list as usize + 1);
        grow(&mut self.owners, list as usize + 1, node);
        self.owners[list as usize] = node;
        let owners = &self.owners;
        self.by_node
            .insert(hash(node), list, |list| hash(owners[list as usize]));
        list
    }

    /// Frees the list of a node.
    pub(super) fn remove(&mut self, node: u32) {
        let owners = &self.owners;
        let is_own = |list: u32| owners[list as usize] == node;
        self.free.extend(self.by_node.remove(hash(node), is_own));
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.lists.memory()
            + bytes_of_vec(&self.owners)
            + self.by_node.memory()
            + bytes_of_vec(&self.free)
    }
}

fn hash(node: u32) -> u64 {
    // A multiplication spreads numbers over the high bits, which the tables also look at.
    let product = u64::from(node).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_found_freed_and_used_again() {
        let mut upper = Upper::new(Layout::new(4, false));
        upper.reserve(50);
        for node in 0..200 {
            upper.set(node * 16, &[node, node + 1]);
        }
        for node in (0..200).step_by(2) {
            upper.remove(node * 16);
            upper.remove(node * 16);
        }
        let links = |upper: &Upper, node| upper.links(node).to_vec();
        let before = upper.memory();
        for node in (0..200).step_by(2) {
            assert_eq!(links(&upper, node * 16), [0; 0]);
            upper.set(node * 16 + 1, &[node]);
        }
        for node in 0..200 {
            let is_new = node % 2 == 0;
            let (kept, new): (&[u32], &[u32]) = match is_new {
                true => (&[], &[node]),
                false => (&[node, node + 1], &[]),
            };
            assert_eq!(links(&upper, node * 16), kept);
            assert_eq!(links(&upper, node * 16 + 1), new);
        }
        assert_eq!((upper.owners.len(), upper.free.len()), (200, 0));
        assert!(upper.memory() <= before);
    }
}
