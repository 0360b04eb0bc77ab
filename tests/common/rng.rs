//! Numbers and vectors from a seed: the same on every machine.

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n as u64) as usize
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Roughly normal, mean 0 and variance 1: the sum of twelve uniform numbers.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    /// A vector of `dim` normal coordinates.
    pub fn vector(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| self.normal()).collect()
    }

    /// `rows` vectors around `clusters` centres; `spread` is the deviation within a cluster,
    /// where the centres' own is 1.
    pub fn clustered(
        &mut self,
        rows: usize,
        dim: usize,
        clusters: usize,
        spread: f32,
    ) -> Vec<Vec<f32>> {
        let centres: Vec<_> = (0..clusters).map(|_| self.vector(dim)).collect();
        (0..rows)
            .map(|_| {
                let centre = self.below(clusters);
                (0..dim)
                    .map(|at| centres[centre][at] + spread * self.normal())
                    .collect()
            })
            .collect()
    }
}
