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

    /// Marks a node; `true` if it was not marked before.
    #[inline]
    pub(super) fn mark(&mut self, node: u32) -> bool {
        let tag = &mut self.tags[node as usize];
        let fresh = *tag != self.generation;
        *tag = self.generation;
        fresh
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
    fn marks_last_one_generation() {
        let mut visited = Visited::default();
        for _ in 0..700 {
            visited.begin(2);
            assert!(visited.mark(1));
            assert!(!visited.mark(1));
        }
    }
}
