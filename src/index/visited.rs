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

    /// Marks nodes, and keeps those that were not marked before, in their order.
    ///
    /// Whether a node is fresh is a toss, so nothing branches on it: the tags of a whole list are
    /// then on their way together.
    #[inline]
    pub(super) fn sift(&mut self, nodes: &mut Vec<u32>) {
        let mut kept = 0;
        for place in 0..nodes.len() {
            let node = nodes[place];
            let tag = &mut self.tags[node as usize];
            nodes[kept] = node;
            kept += usize::from(*tag != self.generation);
            *tag = self.generation;
        }
        nodes.truncate(kept);
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
        let mut visited = Visited::default();
        visited.begin(6);
        let mut fresh = |nodes: &[u32]| {
            let mut nodes = nodes.to_vec();
            visited.sift(&mut nodes);
            nodes
        };
        assert_eq!(fresh(&[4]), [4]);
        assert_eq!(fresh(&[5, 4, 0, 5, 1]), [5, 0, 1]);
        assert_eq!(fresh(&[1, 0]), [0; 0]);
        assert_eq!(fresh(&[2, 1, 3]), [2, 3]);
    }

    #[test]
    fn marks_last_one_generation() {
        let mut visited = Visited::default();
        for _ in 0..700 {
            visited.begin(2);
            for wanted in [&[1][..], &[]] {
                let mut fresh = vec![1];
                visited.sift(&mut fresh);
                assert_eq!(fresh, wanted);
            }
        }
    }
}
