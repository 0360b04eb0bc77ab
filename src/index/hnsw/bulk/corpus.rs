//! The codes a build works on, by position, and the keys of many of them at once.

use std::sync::Arc;

use super::super::super::codes::{Codes, Geometry, Point};
use super::super::search::Near;
use crate::distance::Distance;
use crate::kernel::{LANES, PairTerms, Panel, Products, RowTerms};

/// Rows whose products are worked out together: as many sums as stay in a core's cache, whether
/// with a leaf's columns or with some thousands.
const STRIP: usize = 32;

/// How codes are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measure {
    L2,
    Cosine,
    Inner,
}

/// The nodes of one level, numbered from 0 on: their *positions*.
pub(super) struct Corpus<'a> {
    codes: &'a Codes,
    ids: &'a [u32],
    pub(super) geometry: Geometry,
}

impl<'a> Corpus<'a> {
    pub(super) fn new(codes: &'a Codes, ids: &'a [u32]) -> Self {
        Self {
            codes,
            ids,
            geometry: codes.geometry,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    #[inline]
    pub(super) fn id(&self, position: u32) -> u32 {
        self.ids[position as usize]
    }

    /// Always inlined, as what looks rows up is: see `Arena::row`.
    #[inline(always)]
    pub(super) fn point(&self, position: u32) -> Point<'a> {
        self.codes.point(self.id(position))
    }

    /// The position of a node of this level.
    pub(super) fn position(&self, id: u32) -> Option<u32> {
        let found = self.ids.binary_search(&id).ok();
        found.map(|position| position as u32)
    }

    /// Asks for the codes at these positions, which are about to be compared.
    pub(super) fn prefetch(&self, positions: impl IntoIterator<Item = u32>) {
        for position in positions {
            self.point(position).prefetch();
        }
    }

    /// A row as another one sees it.
    #[inline]
    pub(super) fn near(&self, from: u32, position: u32) -> Near {
        Near {
            key: self
                .geometry
                .between(self.point(position), self.point(from)),
            node: position,
        }
    }

    /// What neighbours are chosen by.
    pub(super) fn measure(&self) -> Measure {
        match self.geometry.distance {
            Distance::Euclidean => Measure::L2,
            Distance::Cosine => Measure::Cosine,
            Distance::DotProduct => Measure::Inner,
        }
    }

    /// Whether rows keep candidates by distance beside those by what neighbours are chosen by.
    pub(super) fn is_angular(&self) -> bool {
        self.measure() != self.grouping()
    }

    /// What rows are brought together by. An inner product would send all of them to the few
    /// longest leaders.
    pub(super) fn grouping(&self) -> Measure {
        match self.measure() {
            Measure::Inner => Measure::L2,
            other => other,
        }
    }
}

/// Codes packed to be compared with others, and the buffers for it.
#[derive(Default)]
pub(super) struct Columns {
    /// Shared with those that were forked off.
    panel: Arc<Panel>,
    terms: PairTerms,
    products: Products,
    keys: Vec<f32>,
}

impl Columns {
    /// The same columns with buffers of their own.
    pub(super) fn fork(&self) -> Self {
        Self {
            panel: Arc::clone(&self.panel),
            terms: self.terms.clone(),
            products: Products::default(),
            keys: self.keys.clone(),
        }
    }

    /// Packs the codes at these positions, which have been asked for.
    pub(super) fn pack(&mut self, corpus: &Corpus<'_>, measure: Measure, members: &[u32]) {
        let codes: Vec<&[u8]> = members.iter().map(|&at| corpus.point(at).bytes).collect();
        (corpus.geometry.kernels().pack)(&codes, Arc::make_mut(&mut self.panel));
        self.terms.clear();
        for &member in members {
            let point = corpus.point(member);
            let terms = terms_of(&corpus.geometry, measure, point);
            self.terms.push(&terms, corpus.geometry.shift(point));
        }
        self.keys.clear();
        self.keys
            .resize(members.len().next_multiple_of(LANES), f32::INFINITY);
    }

    /// Shows the keys of each of `rows` to every column.
    pub(super) fn compare(
        &mut self,
        corpus: &Corpus<'_>,
        measure: Measure,
        rows: &[u32],
        mut show: impl FnMut(usize, &[f32]),
    ) {
        for (strip, rows) in rows.chunks(STRIP).enumerate() {
            corpus.prefetch(rows.iter().copied());
            let codes: Vec<&[u8]> = rows.iter().map(|&at| corpus.point(at).bytes).collect();
            self.multiply(corpus, &codes, 0);
            for (row, &position) in rows.iter().enumerate() {
                let terms = terms_of(&corpus.geometry, measure, corpus.point(position));
                self.keys(corpus, measure, row, &terms, 0);
                show(strip * STRIP + row, &self.keys);
            }
        }
    }

    /// Shows, for each of `members`, which are the packed ones, its keys to those behind it:
    /// `keys[j]` of column `j`; those up to itself are infinite as far as its group of `LANES`
    /// begins, and unspecified before. The last is shown first, so that
    /// near ones, whose places are near, come early both to a row and to a column.
    pub(super) fn compare_pairs(
        &mut self,
        corpus: &Corpus<'_>,
        measure: Measure,
        members: &[u32],
        mut show: impl FnMut(usize, &[f32]),
    ) {
        let dim = corpus.geometry.dim as f32;
        for (strip, rows) in members.chunks(STRIP).enumerate().rev() {
            let codes: Vec<&[u8]> = rows.iter().map(|&at| corpus.point(at).bytes).collect();
            let start = strip * STRIP;
            self.multiply(corpus, &codes, start);
            for row in (0..rows.len()).rev() {
                let terms = self.terms.row(start + row, dim);
                self.keys(corpus, measure, row, &terms, start + row);
                let group = (start + row) / LANES * LANES;
                self.keys[group..=start + row].fill(f32::INFINITY);
                show(start + row, &self.keys);
            }
        }
    }

    fn multiply(&mut self, corpus: &Corpus<'_>, rows: &[&[u8]], first: usize) {
        let kernels = corpus.geometry.kernels();
        (kernels.products)(rows, first, &self.panel, &mut self.products);
    }

    fn keys(
        &mut self,
        corpus: &Corpus<'_>,
        measure: Measure,
        row: usize,
        terms: &RowTerms,
        first: usize,
    ) {
        let kernels = corpus.geometry.kernels();
        let keys = match measure {
            Measure::L2 => kernels.l2_keys,
            Measure::Cosine => kernels.cosine_keys,
            Measure::Inner => kernels.dot_keys,
        };
        let products = &self.products.sums[row * self.panel.stride()..];
        keys(terms, &self.terms, first, products, &mut self.keys);
    }
}

/// What the pair kernels need of a code beside its bytes.
fn terms_of(geometry: &Geometry, measure: Measure, point: Point<'_>) -> RowTerms {
    let mut terms = geometry.row_terms(point.terms);
    if measure == Measure::L2 && geometry.distance != Distance::Euclidean {
        terms.own = geometry.squares(point);
    }
    terms
}
