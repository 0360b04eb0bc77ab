//! Lists of neighbours as bytes: places of a fixed number for links, of which the last may be unused.
//!
//! A link takes three bytes where every node's number fits them, and four otherwise. The parts of
//! all links stand side by side, the low 16 bits, the next 8 and, in wide lists, the highest 8, so
//! that a register takes a whole list apart.

use std::ops::Range;

/// Nodes that narrow lists can tell from each other and from an unused place.
pub(super) const NARROW_NODES: usize = 0xff_ffff;

/// How the lists of one level are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    places: usize,
    is_wide: bool,
}

impl Layout {
    pub(super) fn new(places: usize, is_wide: bool) -> Self {
        Self { places, is_wide }
    }

    /// The same lists, with room for any number.
    pub(super) fn widened(self) -> Self {
        Self::new(self.places, true)
    }

    pub(super) fn is_wide(self) -> bool {
        self.is_wide
    }

    /// Bytes of a list.
    pub(super) fn bytes(self) -> usize {
        self.places * if self.is_wide { 4 } else { 3 }
    }

    /// What every byte of an unused place is.
    pub(super) const UNUSED: u8 = u8::MAX;

    /// All places of a list.
    #[inline]
    fn all(self, list: &[u8]) -> Links<'_> {
        let (low, rest) = list.split_at(2 * self.places);
        let (high, top) = rest.split_at(self.places);
        Links {
            low: low.as_chunks().0,
            high,
            top: self.is_wide.then_some(top),
        }
    }

    /// The links of a list.
    #[inline]
    pub(super) fn links(self, list: &[u8]) -> Links<'_> {
        let all = self.all(list);
        // Counting all is faster than looking for the first: it needs no branches.
        let halves = all.low.iter().zip(all.high);
        let used = match all.top {
            None => halves.map(|(low, high)| u16::from(*low != [u8::MAX; 2] || *high != u8::MAX)),
            Some(top) => return all.first(used_of_wide(all, top)),
        };
        all.first(usize::from(used.sum::<u16>()))
    }

    /// Adds a link where there is room and no such link.
    #[inline]
    pub(super) fn add(self, list: &mut [u8], link: u32) {
        let links = self.links(list);
        let used = links.len();
        if used < self.places && !links.contains(link) {
            self.put(list, used, link);
        }
    }

    /// Puts these links, which fit, in place of others.
    pub(super) fn write(self, list: &mut [u8], links: &[u32]) {
        assert!(links.len() <= self.places, "more links than places");
        for (place, &link) in links.iter().enumerate() {
            self.put(list, place, link);
        }
        for place in links.len()..self.places {
            self.put(list, place, u32::MAX);
        }
    }

    #[inline]
    fn put(self, list: &mut [u8], place: usize, link: u32) {
        let [low, next, high, top] = link.to_le_bytes();
        debug_assert!(self.is_wide || top == 0 || link == u32::MAX);
        list[2 * place] = low;
        list[2 * place + 1] = next;
        list[2 * self.places + place] = high;
        if self.is_wide {
            list[3 * self.places + place] = top;
        }
    }
}

fn used_of_wide(all: Links<'_>, top: &[u8]) -> usize {
    let parts = all.low.iter().zip(all.high).zip(top);
    let used = parts.map(|((low, high), top)| {
        u16::from(*low != [u8::MAX; 2] || *high != u8::MAX || *top != u8::MAX)
    });
    usize::from(used.sum::<u16>())
}

/// Links of a list, in their order.
#[derive(Clone, Copy, Default)]
pub(crate) struct Links<'a> {
    low: &'a [[u8; 2]],
    high: &'a [u8],
    top: Option<&'a [u8]>,
}

impl<'a> Links<'a> {
    pub(super) fn len(self) -> usize {
        self.low.len()
    }

    pub(super) fn iter(self) -> impl ExactSizeIterator<Item = u32> + Clone + 'a {
        (0..self.len()).map(move |place| self.get(place))
    }

    #[inline]
    fn get(self, place: usize) -> u32 {
        let top = self.top.map_or(0, |top| top[place]);
        joined(&self.low[place], self.high[place], top)
    }

    pub(super) fn contains(self, link: u32) -> bool {
        self.iter().any(|other| other == link)
    }

    pub(super) fn to_vec(self) -> Vec<u32> {
        self.iter().collect()
    }

    /// Puts the links, and nothing else, into `out`.
    #[inline]
    pub(super) fn unpack(self, out: &mut Vec<u32>) {
        out.clear();
        let halves = self.low.iter().zip(self.high);
        match self.top {
            None => out.extend(halves.map(|(low, &high)| joined(low, high, 0))),
            Some(top) => {
                let parts = halves.zip(top);
                out.extend(parts.map(|((low, &high), &top)| joined(low, high, top)));
            }
        }
    }

    /// The links, so many at a time.
    pub(super) fn chunks(self, links: usize) -> impl Iterator<Item = Self> {
        let starts = (0..self.len()).step_by(links);
        starts.map(move |start| self.part(start..self.len().min(start + links)))
    }

    fn first(self, links: usize) -> Self {
        self.part(0..links)
    }

    fn part(self, places: Range<usize>) -> Self {
        Self {
            low: &self.low[places.clone()],
            high: &self.high[places.clone()],
            top: self.top.map(|top| &top[places]),
        }
    }
}

#[inline]
fn joined(&[low, next]: &[u8; 2], high: u8, top: u8) -> u32 {
    u32::from_le_bytes([low, next, high, top])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(links: Links<'_>) -> Vec<u32> {
        let mut out = vec![9; 40];
        links.unpack(&mut out);
        assert_eq!((out.len(), &out), (links.len(), &links.to_vec()));
        out
    }

    #[test]
    fn a_list_holds_from_none_to_all_of_its_places() {
        let highest = NARROW_NODES as u32 - 1;
        for (is_wide, highest) in [(false, highest), (true, highest), (true, u32::MAX - 1)] {
            let layout = Layout::new(4, is_wide);
            let mut list = vec![Layout::UNUSED; layout.bytes()];
            assert_eq!(unpacked(layout.links(&list)), [0; 0]);
            let lists = [
                &[7, 0, highest, 0xffff][..],
                &[0xff_0000, 2],
                &[],
                &[0],
                &[highest],
                &[highest - 0xff, 0x1_0000, highest - 0xff00],
            ];
            for links in lists {
                layout.write(&mut list, links);
                assert_eq!(unpacked(layout.links(&list)), links);
                for link in [0, 2, highest, 5] {
                    assert_eq!(layout.links(&list).contains(link), links.contains(&link));
                }
            }
        }
    }

    #[test]
    fn a_link_is_added_once_and_where_there_is_room() {
        for is_wide in [false, true] {
            let layout = Layout::new(3, is_wide);
            let mut list = vec![Layout::UNUSED; layout.bytes()];
            for link in [70_000, 5, 70_000, 5, 0xff_fffe, 1] {
                layout.add(&mut list, link);
            }
            assert_eq!(unpacked(layout.links(&list)), [70_000, 5, 0xff_fffe]);
        }
    }
}
