//! A log of links before the rows are read: which row has which place, and how high its node is.

use rayon::prelude::*;

use super::read::{Head, List, Nodes};
use super::sample;
use crate::ids::RowId;
use crate::kernel;

/// One record in so many may be of a row that is gone.
pub(super) const GONE_SHARE: usize = 5;

/// Ids are looked up by a table of all that are possible, unless that has so many times the
/// entries of the records.
const SPREAD_MAX: u64 = 8;

/// No place, or no node.
pub(super) const NONE: u32 = u32::MAX;

/// The groups of a log, each with its place: that of its first record.
pub(crate) struct Log {
    pub(super) groups: Vec<Group>,
    /// Levels by place.
    pub(super) levels: Vec<u8>,
    pub(super) records: usize,
    /// How many of a sample were found in the graph that was written, if that is told.
    pub(super) sample: Option<u16>,
    /// Links name places below this one: those of the whole graph that was written.
    named: u32,
    ids: Ids,
    /// A bit for every place, set where it is vacant; none at all where no place is.
    vacant: Vec<u64>,
}

pub(super) struct Group {
    pub(super) bytes: Vec<u8>,
    pub(super) head: Head,
    pub(super) place: u32,
    pub(super) records: u32,
    /// Where its lists begin.
    pub(super) lists_at: usize,
    /// Ids of its nodes, where these are what it calls them by.
    pub(super) ids: Vec<u64>,
}

impl Log {
    /// The groups of these hints that were written under `fingerprint`, for a table of about
    /// `rows` rows; `None` where they cannot be of use.
    pub(in super::super) fn read(
        fingerprint: u64,
        hints: Vec<Vec<u8>>,
        rows: usize,
    ) -> Option<Self> {
        // Nobody's word for how long the log is: its places take memory.
        let places_max = (rows + rows / 2) as u64;
        let sample = sample::said(&hints, fingerprint);
        let (mut places, mut named) = (0, 0);
        let placed = hints.into_iter().filter_map(|bytes| {
            let head = Head::of(&bytes).filter(|head| head.fingerprint == fingerprint)?;
            // A group that was lost leaves its places vacant; one that comes twice is passed over.
            let place = if head.by_place { head.first } else { places };
            let end = place.checked_add(u64::from(head.records))?;
            if place < places || end > places_max {
                return None;
            }
            places = end;
            if head.by_place {
                named = end as u32;
            }
            Some((bytes, head, place as u32))
        });
        let placed: Vec<(Vec<u8>, Head, u32)> = placed.collect();
        let read = placed.into_par_iter().filter_map(|(bytes, head, place)| {
            let Nodes {
                ids,
                levels,
                lists_at,
            } = Nodes::of(&bytes, &head)?;
            let group = Group {
                bytes,
                head,
                place,
                records: ids.len() as u32,
                lists_at,
                ids,
            };
            Some((group, levels))
        });
        let read: Vec<(Group, Vec<u8>)> = read.collect();
        let mut log = Self {
            records: read.iter().map(|(group, _)| group.ids.len()).sum(),
            sample,
            groups: Vec::with_capacity(read.len()),
            levels: vec![0; places as usize],
            named,
            ids: Ids::for_all(&read),
            vacant: Vec::new(),
        };
        for (mut group, levels) in read {
            let place = group.place as usize;
            log.levels[place..place + levels.len()].copy_from_slice(&levels);
            for (place, &id) in (group.place..).zip(&group.ids) {
                log.ids.put(id, place);
            }
            if group.head.by_place {
                group.ids = Vec::new();
            }
            log.groups.push(group);
        }
        log.ids.finish();
        let known_min = log.records - log.records / GONE_SHARE;
        // Vacant places take memory as well.
        let is_dense = log.records >= log.places() - log.places() / GONE_SHARE;
        (log.records > 0 && known_min <= rows && is_dense).then_some(log)
    }

    /// How many places there are.
    pub(in super::super) fn places(&self) -> usize {
        self.levels.len()
    }

    /// The place of the node whose first row has this id.
    pub(in super::super) fn place_of(&self, id: RowId) -> Option<u32> {
        Some(self.ids.get(id.get())).filter(|&place| place != NONE)
    }

    /// Takes note that nobody has this place, if it is one.
    pub(in super::super) fn vacate(&mut self, place: u32) {
        if place as usize >= self.places() {
            return;
        }
        if self.vacant.is_empty() {
            self.vacant = vec![0; self.places().div_ceil(64)];
        }
        self.vacant[place as usize / 64] |= 1 << (place % 64);
    }

    /// The node in a place, which has the number of the place.
    #[inline]
    pub(super) fn node(&self, place: u32) -> u32 {
        let bits = self.vacant.get(place as usize / 64);
        let is_vacant = bits.is_some_and(|bits| bits >> (place % 64) & 1 == 1);
        if is_vacant || place as usize >= self.levels.len() {
            return NONE;
        }
        place
    }

    /// The place of the node that a link names.
    #[inline]
    pub(super) fn linked_place(&self, by_place: bool, link: i64) -> u32 {
        if by_place {
            let place = u32::try_from(link).ok();
            return place.filter(|&place| place < self.named).unwrap_or(NONE);
        }
        u64::try_from(link).map_or(NONE, |id| self.ids.get(id))
    }

    /// Asks for what looking for these row ids will read.
    pub(super) fn prefetch(&self, ids: &[i64]) {
        if let Ids::Dense { first, places } = &self.ids {
            for id in ids {
                let nth = id.cast_unsigned().wrapping_sub(*first) as usize;
                if let Some(place) = places.get(nth) {
                    kernel::prefetch(std::slice::from_ref(place));
                }
            }
        }
    }

    /// Whether this is a list of places that there are, none of them mutual and none twice.
    #[inline]
    pub(super) fn is_plain(&self, list: &List) -> bool {
        let links = &list.links[..];
        let (Some(&first), Some(&last)) = (links.first(), links.last()) else {
            return true;
        };
        // All looked at, without a branch.
        let pairs = links.iter().zip(&links[1..]);
        let apart: usize = pairs.map(|(a, b)| usize::from(a < b)).sum();
        list.mutual == 0 && first >= 0 && last < i64::from(self.named) && apart + 1 == links.len()
    }

    /// How many places have a node.
    pub(super) fn known(&self) -> usize {
        let vacant: usize = self
            .vacant
            .iter()
            .map(|bits| bits.count_ones() as usize)
            .sum();
        self.places() - vacant
    }
}

/// Places by row id.
enum Ids {
    /// By id less the first.
    Dense {
        first: u64,
        places: Vec<u32>,
    },
    Sparse(Vec<(u64, u32)>),
}

impl Ids {
    fn for_all(groups: &[(Group, Vec<u8>)]) -> Self {
        let records: usize = groups.iter().map(|(group, _)| group.ids.len()).sum();
        let all = groups.iter().flat_map(|(group, _)| &group.ids);
        let (first, last) = all.fold((u64::MAX, 0), |(first, last), &id| {
            (first.min(id), last.max(id))
        });
        let span = last.saturating_sub(first).saturating_add(1);
        if records == 0 || span / SPREAD_MAX > records as u64 {
            return Self::Sparse(Vec::with_capacity(records));
        }
        Self::Dense {
            first,
            places: vec![NONE; span as usize],
        }
    }

    /// Gives an id its place; the first one counts.
    fn put(&mut self, id: u64, place: u32) {
        match self {
            Self::Dense { first, places } => {
                let known = &mut places[(id - *first) as usize];
                *known = (*known).min(place);
            }
            Self::Sparse(places) => places.push((id, place)),
        }
    }

    /// To be called once all ids are put and none was asked for.
    fn finish(&mut self) {
        if let Self::Sparse(places) = self {
            places.sort_unstable();
            places.dedup_by_key(|place| place.0);
        }
    }

    #[inline]
    fn get(&self, id: u64) -> u32 {
        let found = match self {
            Self::Dense { first, places } => {
                let nth = id
                    .checked_sub(*first)
                    .and_then(|nth| usize::try_from(nth).ok());
                nth.and_then(|nth| places.get(nth)).copied()
            }
            Self::Sparse(places) => {
                let found = places.binary_search_by_key(&id, |place| place.0);
                found.ok().map(|nth| places[nth].1)
            }
        };
        found.unwrap_or(NONE)
    }
}
