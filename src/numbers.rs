//! A set of numbers whose keys stand elsewhere: a hash table that is nearly full, and not up to
//! half empty, where the number of its members was announced.

use hashbrown::HashTable;

/// Members meant for one shard: what a table of 8,192 buckets takes before it doubles, 7,168,
/// less three times the square root, by which shards differ.
const SHARD: usize = 6_920;

/// Fewer shards than this waste more by their last one than a single table would.
const SHARDS_MIN: usize = 8;

/// Numbers, cut into tables of a few thousand by their hashes: any number of equal tables can be
/// full, where the buckets of a single one are a power of two.
#[derive(Default)]
pub(crate) struct Numbers {
    shards: Vec<HashTable<u32>>,
}

impl Numbers {
    /// The shard of a hash, from bits in which no table looks: it takes the lowest for places and
    /// the highest seven to tell members apart.
    #[inline]
    fn shard(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.shards.len() as u64) >> 32) as usize
    }

    /// The number with this hash that `is` it.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let shard = self.shards.get(self.shard(hash))?;
        shard.find(hash, |&number| is(number)).copied()
    }

    /// Adds a number that is not in the set.
    pub(crate) fn insert(&mut self, hash: u64, number: u32, rehash: impl Fn(u32) -> u64) {
        if self.shards.is_empty() {
            self.shards.push(HashTable::new());
        }
        let shard = self.shard(hash);
        self.shards[shard].insert_unique(hash, number, |&number| rehash(number));
    }

    /// Puts a number in the place of the one with this hash that `is` equal to it, and returns that
    /// one, or adds it.
    pub(crate) fn replace_or_insert(
        &mut self,
        hash: u64,
        number: u32,
        mut is: impl FnMut(u32) -> bool,
        rehash: impl Fn(u32) -> u64,
    ) -> Option<u32> {
        let shard = self.shard(hash);
        let shard = self.shards.get_mut(shard);
        let found = shard.and_then(|shard| shard.find_mut(hash, |&other| is(other)));
        if let Some(place) = found {
            return Some(std::mem::replace(place, number));
        }
        self.insert(hash, number, rehash);
        None
    }

    /// Brings entries into the order of their shards, and leaves the order within each: added one
    /// after another they find each shard in a core's cache.
    pub(crate) fn arrange<H: Copy + Into<u64>>(&self, entries: &mut Vec<(H, u32)>) {
        if self.shards.len() < SHARDS_MIN {
            return;
        }
        let mut ends = vec![0u32; self.shards.len() + 1];
        for &(hash, _) in &*entries {
            ends[self.shard(hash.into()) + 1] += 1;
        }
        let mut end = 0;
        for next in &mut ends {
            end += *next;
            *next = end;
        }
        let mut arranged = entries.clone();
        for &entry in &*entries {
            let place = &mut ends[self.shard(entry.0.into())];
            arranged[*place as usize] = entry;
            *place += 1;
        }
        *entries = arranged;
    }

    /// Takes the number with this hash that `is` it out of the set and returns it.
    pub(crate) fn remove(&mut self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let shard = self.shard(hash);
        let shard = self.shards.get_mut(shard)?;
        let found = shard.find_entry(hash, |&number| is(number)).ok()?;
        Some(found.remove().0)
    }

    /// Makes room for this many more numbers.
    pub(crate) fn reserve(&mut self, additional: usize, rehash: impl Fn(u32) -> u64) {
        let wanted = self.len() + additional;
        let room: usize = self.shards.iter().map(HashTable::capacity).sum();
        if wanted <= room {
            return;
        }
        let (shards, each) = match wanted.div_ceil(SHARD) {
            shards if shards < SHARDS_MIN => (1, wanted),
            shards => (shards, SHARD),
        };
        let table = |_| HashTable::with_capacity(each);
        let old = std::mem::replace(&mut self.shards, (0..shards).map(table).collect());
        for number in old.into_iter().flatten() {
            self.insert(rehash(number), number, &rehash);
        }
    }

    /// Puts other numbers in the places of those that are there; their hashes stay.
    pub(crate) fn replace(&mut self, new_of_old: impl Fn(u32) -> u32) {
        let numbers = self.shards.iter_mut().flat_map(HashTable::iter_mut);
        numbers.for_each(|number| *number = new_of_old(*number));
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    /// Allocated bytes.
    pub(crate) fn memory(&self) -> usize {
        let tables: usize = self.shards.iter().map(HashTable::allocation_size).sum();
        tables + self.shards.capacity() * size_of::<HashTable<u32>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn hash(number: u32) -> u64 {
        xxh3_64(&number.to_le_bytes())
    }

    fn fill(set: &mut Numbers, count: u32) {
        (0..count).for_each(|number| set.insert(hash(number), number, hash));
    }

    fn bytes_each(set: &Numbers) -> f64 {
        set.memory() as f64 / set.len() as f64
    }

    #[test]
    fn announced_numbers_take_little_more_than_their_bytes() {
        for count in [100_000, 300_000, 1_000_000, 3_000_000] {
            let mut set = Numbers::default();
            set.reserve(count as usize, hash);
            fill(&mut set, count);
            assert!(bytes_each(&set) <= 6.3, "{} of {count}", bytes_each(&set));
        }
    }

    #[test]
    fn growth_takes_no_more_than_a_single_table() {
        let mut single = HashTable::new();
        let mut set = Numbers::default();
        // Shards, too, double when they are full, and no earlier than a single table.
        let mut announced = Numbers::default();
        announced.reserve(60_000, hash);
        for number in 0..200_000 {
            single.insert_unique(hash(number), number, |&number| hash(number));
            set.insert(hash(number), number, hash);
            announced.insert(hash(number), number, hash);
            if number % 1_000 == 999 {
                assert!(set.memory() <= single.allocation_size() + 256);
            }
            if number > 60_000 && number % 1_000 == 999 {
                let each = bytes_each(&announced);
                assert!(each <= 12.0, "{each} of {number}");
            }
        }
    }

    #[test]
    fn arranged_entries_fill_shard_after_shard() {
        for announced in [100, 100_000] {
            let mut set = Numbers::default();
            set.reserve(announced, hash);
            let mut entries: Vec<(u64, u32)> = (0..90_000).map(|n| (hash(n), n)).collect();
            set.arrange(&mut entries);
            assert!(entries.iter().all(|&(known, number)| known == hash(number)));
            assert!(entries.is_sorted_by_key(|&(known, _)| set.shard(known)));
            for &(known, number) in &entries {
                let old = set.replace_or_insert(known, number, |other| other == number, hash);
                assert_eq!(old, None);
            }
            let old = set.replace_or_insert(hash(9), 90_009, |other| other == 9, hash);
            assert_eq!((old, set.len()), (Some(9), 90_000));
        }
    }

    #[test]
    fn numbers_are_found_until_they_are_removed() {
        for announced in [0, 1_000, 100_000] {
            let mut set = Numbers::default();
            assert_eq!(set.find(hash(7), |_| true), None);
            assert_eq!(set.remove(hash(7), |_| true), None);
            set.reserve(announced, hash);
            fill(&mut set, 70_000);
            // Room for more keeps what is there.
            set.reserve(100_000, hash);
            assert_eq!(set.len(), 70_000);
            for number in (0..70_000).step_by(3) {
                let removed = set.remove(hash(number), |other| other == number);
                assert_eq!(removed, Some(number));
            }
            for number in 0..70_000 {
                let found = set.find(hash(number), |other| other == number);
                assert_eq!(found.is_some(), number % 3 != 0);
            }
            assert_eq!(set.len(), 46_666);
        }
    }
}
