//! Which nodes a walk has seen, as generation tags that need no clearing.

/// One tag per node; a node is marked if its tag is the current generation. Tags of one byte
/// leave room in a core's cache, and clearing them after 255 walks costs little of each.
#[derive(Default)]
pub(super) struct Visited {
    tags: Vec<u8>,
    generation: u8,
}

impl Visited {
    /// Forgets all marks and makes room for `nodes`.
    pub(super) fn begin(&mut self, nodes: usize) {
        super::arena::grow(&mut self.tags, nodes, 0);
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            // Tags of 255 walks ago would look fresh.
            self.tags.fill(0);
            self.generation = 1;
        }
    }

    /// Marks nodes, and puts those that were not marked before into `fresh`, in their order.
    ///
    /// Whether a node is fresh is a toss, so nothing branches on it: the tags of a whole list are
    /// then on their way together.
    #[inline]
    pub(super) fn mark_all(&mut self, nodes: &[u32], fresh: &mut Vec<u32>) {
        fresh.resize(nodes.len(), 0);
        let mut kept = 0;
        for &node in nodes {
            let tag = &mut self.tags[node as usize];
            fresh[kept] = node;
            kept += usize::from(*tag != self.generation);
            *tag = self.generation;
        }
        fresh.truncate(kept);
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        super::arena::bytes_of_vec(&self.tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_marked_and_the_fresh_ones_kept() {
        let (mut visited, mut fresh) = (Visited::default(), vec![9; 3]);
        visited.begin(6);
        visited.mark_all(&[4], &mut fresh);
        visited.mark_all(&[5, 4, 0, 5, 1], &mut fresh);
        assert_eq!(fresh, [5, 0, 1]);
        visited.mark_all(&[1, 0], &mut fresh);
        assert_eq!(fresh, [0; 0]);
        visited.mark_all(&[2, 1, 3], &mut fresh);
        assert_eq!(fresh, [2, 3]);
    }

    #[test]
    fn marks_last_one_generation() {
        let (mut visited, mut fresh) = (Visited::default(), Vec::new());
        for _ in 0..700 {
            visited.begin(2);
            visited.mark_all(&[1], &mut fresh);
            assert_eq!(fresh, [1]);
            visited.mark_all(&[1], &mut fresh);
            assert_eq!(fresh, [0; 0]);
        }
    }
}
