//! A list of neighbours: links in places of a fixed number, of which the last may be unused.

/// An unused place. All behind it are unused as well.
pub(super) const UNUSED: u32 = u32::MAX;

/// The links in these places.
#[inline]
pub(super) fn links(places: &[u32]) -> &[u32] {
    // Counting all is faster than looking for the first: it needs no branches.
    let used = places.iter().map(|&link| u32::from(link != UNUSED));
    &places[..used.sum::<u32>() as usize]
}

/// Adds a link where there is room and no such link.
#[inline]
pub(super) fn add(places: &mut [u32], link: u32) {
    // Both counted over all places, without a branch.
    let (mut used, mut known) = (0, 0);
    for &place in &*places {
        used += u32::from(place != UNUSED);
        known += u32::from(place == link);
    }
    if known == 0
        && let Some(place) = places.get_mut(used as usize)
    {
        *place = link;
    }
}

/// Puts these links, which fit, in place of others.
pub(super) fn write(places: &mut [u32], links: &[u32]) {
    let (used, unused) = places.split_at_mut(links.len());
    used.copy_from_slice(links);
    unused.fill(UNUSED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_from_none_to_all_of_its_places() {
        let mut places = [UNUSED; 4];
        assert_eq!(links(&places), [0; 0]);
        for list in [&[7, 0, 9, 3][..], &[1, 2], &[], &[0]] {
            write(&mut places, list);
            assert_eq!(links(&places), list);
        }
    }
}
