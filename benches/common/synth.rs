//! Clustered synthetic vectors: a seeded Gaussian mixture with a decaying spectrum.
//!
//! Component c has weight 1 / (c + 10). A vector is `Q (s * (mu_c + sigma_c * g))`: `mu_c` and `g`
//! standard normal, `s_j = (1 + j)^-0.4`, `sigma_c = 0.5 * exp(0.35 * normal)`, `Q` a random
//! rotation. Clusters differ in size and width and overlap, as those of embeddings do. Row `i` is
//! the same however many rows are drawn.

use std::f64::consts::TAU;

use super::Rows;

const CLUSTERS: usize = 2_000;
const SEED: u64 = 7;
/// Queries are rows from here on, so that none of them is a base row.
pub(crate) const QUERY_START: usize = 1 << 40;

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ SEED)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f32 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        (radius * (TAU * self.uniform()).cos()) as f32
    }

    fn normals(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }
}

/// The mixture in one dimension count.
pub(crate) struct Mixture {
    dim: usize,
    centers: Vec<f32>,
    widths: Vec<f32>,
    /// Sums of the weights of the components up to each.
    cumulative: Vec<f64>,
    scales: Vec<f32>,
    /// Orthonormal rows.
    rotation: Vec<f32>,
}

impl Mixture {
    pub(crate) fn new(dim: usize) -> Self {
        let mut random = Random::new(dim as u64);
        let centers = random.normals(CLUSTERS * dim);
        let widths = (0..CLUSTERS).map(|_| 0.5 * (0.35 * random.normal()).exp());
        let widths = widths.collect();
        let mut sum = 0.0;
        let cumulative = (0..CLUSTERS).map(|c| {
            sum += 1.0 / (c as f64 + 10.0);
            sum
        });
        Self {
            dim,
            centers,
            widths,
            cumulative: cumulative.collect(),
            scales: (0..dim).map(|j| (1.0 + j as f32).powf(-0.4)).collect(),
            rotation: rotation(dim, &mut random),
        }
    }

    /// Row `row` of the endless set.
    pub(crate) fn row(&self, row: usize) -> Vec<f32> {
        let mut random = Random::new(row as u64 + 1);
        let at = random.uniform() * self.cumulative[CLUSTERS - 1];
        let cluster = self.cumulative.partition_point(|&sum| sum < at);
        let center = &self.centers[cluster * self.dim..][..self.dim];
        let mut turned = vec![0.0f32; self.dim];
        for (j, axis) in self.rotation.chunks_exact(self.dim).enumerate() {
            let along = self.scales[j] * (center[j] + self.widths[cluster] * random.normal());
            for (out, a) in turned.iter_mut().zip(axis) {
                *out += along * a;
            }
        }
        turned
    }

    /// `len` rows from `start` on, drawn on all cores.
    pub(crate) fn rows(&self, start: usize, len: usize) -> Rows {
        let mut values = vec![0.0; len * self.dim];
        super::on_all_cores(&mut values, self.dim, |first, part| {
            for (i, out) in part.chunks_exact_mut(self.dim).enumerate() {
                out.copy_from_slice(&self.row(start + first + i));
            }
        });
        Rows::new(self.dim, values)
    }
}

/// `row` with noise of a tenth of its length, the same for a seed.
pub(crate) fn near(row: &[f32], seed: usize) -> Vec<f32> {
    let mut random = Random::new(seed as u64);
    let squared: f32 = row.iter().map(|x| x * x).sum();
    let noise = 0.1 * (squared / row.len() as f32).sqrt();
    row.iter().map(|x| x + noise * random.normal()).collect()
}

/// A random orthonormal basis: Gram and Schmidt on normal vectors.
fn rotation(dim: usize, random: &mut Random) -> Vec<f32> {
    let mut basis: Vec<f32> = Vec::with_capacity(dim * dim);
    for _ in 0..dim {
        let mut axis = random.normals(dim);
        // Twice, because once leaves the rounding of the cancelled part.
        for _ in 0..2 {
            for earlier in basis.chunks_exact(dim) {
                let along = super::truth::dot(&axis, earlier);
                for (a, e) in axis.iter_mut().zip(earlier) {
                    *a -= along * e;
                }
            }
        }
        let norm = super::truth::dot(&axis, &axis).sqrt();
        basis.extend(axis.iter().map(|a| a / norm));
    }
    basis
}
