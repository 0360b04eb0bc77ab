//! The nearest few of many keys: those of one row, and those of many columns side by side.
//!
//! Whether a key is among the nearest cannot be foretold, so that branches would be guessed wrong:
//! lists are passed as a whole, comparing and swapping, in all lanes of a register at once. `insert` is
//! the exception, but for AVX-512: other registers have no least of two numbers of 64 bits.

/// Columns looked at together.
pub(crate) const LANES: usize = 16;

/// The same place in the lists of `LANES` columns: who is there, and at which key.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Places {
    pub(crate) keys: [f32; LANES],
    pub(crate) nodes: [u32; LANES],
}

/// Ranks that stand side by side in the longest register.
pub(crate) const RANKS: usize = 8;

/// So many ranks, none of them across two cache lines.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C, align(64))]
pub(crate) struct RankLine(pub(crate) [u64; RANKS]);

/// See [`super::Kernels::insert`].
#[inline(always)]
pub(super) fn insert(list: &mut [RankLine], rank: u64) {
    // SAFETY: a line is its ranks and nothing else, one behind the other, in a slice as well.
    let list = unsafe {
        std::slice::from_raw_parts_mut(list.as_mut_ptr().cast::<u64>(), list.len() * RANKS)
    };
    let place = list.partition_point(|&kept| kept < rank);
    if place < list.len() && list[place] != rank {
        list.copy_within(place..list.len() - 1, place + 1);
        list[place] = rank;
    }
}

/// Some keys side by side in a register, or as many nodes, whose bits are only moved.
///
/// Implementations are thin wrappers around one instruction each; `bound` and `offer` are all that
/// call them, from functions that have their CPU feature.
pub(super) trait Keys: Copy {
    /// Keys in a register: a divisor of [`LANES`].
    const WIDTH: usize;
    /// A yes or no for each.
    type Mask: Copy;

    /// # Safety
    ///
    /// The CPU has the feature of this implementation; `WIDTH` keys are readable at `keys`.
    unsafe fn load(keys: *const f32) -> Self;

    /// # Safety
    ///
    /// The CPU has the feature of this implementation; `WIDTH` keys are writable at `to`.
    unsafe fn store(self, to: *mut f32);

    /// The same key in every lane.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn splat(key: f32) -> Self;

    /// Where these are below others.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn below(self, others: Self) -> Self::Mask;

    /// The lesser of each two; of equals either.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn min(self, others: Self) -> Self;

    /// The sums of each two.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn add(self, others: Self) -> Self;

    /// Whether there is a yes.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn any(mask: Self::Mask) -> bool;

    /// These where there is a yes, else others.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn or_else(self, mask: Self::Mask, others: Self) -> Self;
}

/// A key that at least `k` of these keys are not above; infinity if that is not easily told. Keys are
/// no NaN and stand in whole groups of [`LANES`].
///
/// The least keys of as many parts as there are lanes bound that many keys.
///
/// # Safety
///
/// The CPU has the feature of `T`.
#[inline(always)]
pub(super) unsafe fn bound<T: Keys>(keys: &[f32], k: usize) -> f32 {
    debug_assert!(
        keys.len().is_multiple_of(LANES),
        "a group that is not whole"
    );
    if k > LANES {
        return f32::INFINITY;
    }
    let mut least = [f32::INFINITY; LANES];
    for part in (0..LANES).step_by(T::WIDTH) {
        // SAFETY: the CPU has the feature, by the caller's promise; every load and the store are
        // of `WIDTH` keys within a group of `LANES`.
        unsafe {
            let mut low = T::splat(f32::INFINITY);
            for keys in keys.as_chunks::<LANES>().0 {
                low = low.min(T::load(keys.as_ptr().add(part)));
            }
            low.store(least.as_mut_ptr().add(part));
        }
    }
    // The `k`-th of them is the greatest of those that fewer than `k` are below.
    let mut first = [f32::NEG_INFINITY; LANES];
    for part in (0..LANES).step_by(T::WIDTH) {
        // SAFETY: as above.
        unsafe {
            let keys = T::load(least.as_ptr().add(part));
            let (one, zero) = (T::splat(1.0), T::splat(0.0));
            let mut below = zero;
            for &key in &least {
                below = below.add(one.or_else(T::splat(key).below(keys), zero));
            }
            let is_first = below.below(T::splat(k as f32));
            let keys = keys.or_else(is_first, T::splat(f32::NEG_INFINITY));
            keys.store(first.as_mut_ptr().add(part));
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            let (key, other) = (first[lane], first[lane + width]);
            first[lane] = if key > other { key } else { other };
        }
    }
    first[0]
}

/// See [`super::Kernels::offer`].
///
/// # Safety
///
/// The CPU has the feature of `T`.
#[inline(always)]
pub(super) unsafe fn offer<T: Keys>(node: u32, keys: &[f32], k: usize, lists: &mut [Places]) {
    let groups = keys.as_chunks::<LANES>().0;
    debug_assert_eq!(
        LANES * groups.len(),
        keys.len(),
        "a group that is not whole"
    );
    debug_assert_eq!(groups.len() * k, lists.len(), "lists of other columns");
    if k == 4 {
        // So that the compiler knows the length, and need not count.
        for (keys, list) in groups.iter().zip(lists.as_chunks_mut::<4>().0) {
            // SAFETY: the CPU has the feature, by the caller's promise.
            unsafe { offer_group::<T>(node, keys, list) };
        }
    } else {
        for (keys, list) in groups.iter().zip(lists.chunks_exact_mut(k.max(1))) {
            // SAFETY: the CPU has the feature, by the caller's promise.
            unsafe { offer_group::<T>(node, keys, list) };
        }
    }
}

/// # Safety
///
/// The CPU has the feature of `T`.
#[inline(always)]
unsafe fn offer_group<T: Keys>(node: u32, keys: &[f32; LANES], list: &mut [Places]) {
    let Some(last) = list.last().map(|last| last.keys) else {
        return;
    };
    for part in (0..LANES).step_by(T::WIDTH) {
        // SAFETY: the CPU has the feature, by the caller's promise; every load and store is of
        // `WIDTH` keys or nodes, which are as large, within a group of `LANES`.
        unsafe {
            let keys = T::load(keys.as_ptr().add(part));
            let is_near = keys.below(T::load(last.as_ptr().add(part)));
            if !T::any(is_near) {
                continue;
            }
            let mut key = keys.or_else(is_near, T::splat(f32::INFINITY));
            let mut node =
                T::splat(f32::from_bits(node)).or_else(is_near, T::splat(f32::from_bits(u32::MAX)));
            for place in &mut *list {
                let keys = place.keys.as_mut_ptr().add(part);
                let nodes = place.nodes.as_mut_ptr().add(part).cast::<f32>();
                let (kept, other) = (T::load(keys), T::load(nodes));
                // Equal ones make room.
                let stays = kept.below(key);
                kept.or_else(stays, key).store(keys);
                other.or_else(stays, node).store(nodes);
                key = key.or_else(stays, kept);
                node = node.or_else(stays, other);
            }
        }
    }
}

/// The scalar twin of [`Keys`].
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

impl Keys for Plain {
    const WIDTH: usize = 4;
    type Mask = [bool; 4];

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn load(keys: *const f32) -> Self {
        // SAFETY: four keys are readable, by the caller's promise.
        Self(unsafe { keys.cast::<[f32; 4]>().read_unaligned() })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: four keys are writable, by the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn splat(key: f32) -> Self {
        Self([key; 4])
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn below(self, others: Self) -> Self::Mask {
        std::array::from_fn(|lane| self.0[lane] < others.0[lane])
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn min(self, others: Self) -> Self {
        // SAFETY: `Plain` asks nothing of the CPU.
        unsafe { self.or_else(self.below(others), others) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn add(self, others: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + others.0[lane]))
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn any(mask: Self::Mask) -> bool {
        mask.contains(&true)
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn or_else(self, mask: Self::Mask, others: Self) -> Self {
        let lane = |lane: usize| match mask[lane] {
            true => self.0[lane],
            false => others.0[lane],
        };
        Self(std::array::from_fn(lane))
    }
}
