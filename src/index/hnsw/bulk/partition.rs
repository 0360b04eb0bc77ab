//! From all rows to leaves of near ones: every row goes to its few nearest leaders, again and
//! again, until what has come together is small.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::corpus::{Columns, Corpus};
use super::effort::Effort;
use super::nearest::Picks;

/// Most leaders of one division.
const LEADERS_MAX: usize = 1_000;

/// Divisions of divisions there are at most: 20 million rows need four.
pub(super) const DEPTH_MAX: usize = 12;

/// Rows compared with leaders as one piece of parallel work.
const CHUNK: usize = 512;

/// Groups of near rows: positions in ascending order, a row in several of them.
pub(super) type Groups = Vec<Vec<u32>>;

/// Divides `members` once: each goes to so many of its nearest leaders, one group a leader.
pub(super) fn divide(
    corpus: &Corpus<'_>,
    leaders: &[u32],
    members: &[u32],
    fanout: usize,
) -> Groups {
    let fanout = fanout.min(leaders.len());
    let measure = corpus.grouping();
    let mut columns = Columns::default();
    corpus.prefetch(leaders.iter().copied());
    columns.pack(corpus, measure, leaders);
    let work = |columns: &mut Columns, chunk: &[u32]| {
        let mut picks = Picks::new(corpus.geometry.kernels(), fanout);
        let mut nearest = Vec::with_capacity(chunk.len() * fanout);
        columns.compare(corpus, measure, chunk, |_, keys| {
            nearest.extend(picks.select(keys));
        });
        nearest
    };
    let nearest: Vec<Vec<u32>> = if members.len() > 4 * CHUNK {
        let columns = &columns;
        members
            .par_chunks(CHUNK)
            .map_init(|| columns.fork(), work)
            .collect()
    } else {
        vec![work(&mut columns, members)]
    };
    let mut sizes = vec![0; leaders.len()];
    for &leader in nearest.iter().flatten() {
        sizes[leader as usize] += 1;
    }
    let mut groups: Groups = sizes.into_iter().map(Vec::with_capacity).collect();
    let leaders_of = nearest.iter().flat_map(|chunk| chunk.chunks(fanout));
    for (&member, leaders) in members.iter().zip(leaders_of) {
        for &leader in leaders {
            groups[leader as usize].push(member);
        }
    }
    groups
}

/// Divides `members` until every group is a leaf.
pub(super) fn leaves(
    corpus: &Corpus<'_>,
    effort: &Effort,
    members: Vec<u32>,
    depth: usize,
    seed: u64,
    out: &mut Groups,
) {
    if members.len() <= effort.leaf_max || depth == DEPTH_MAX {
        // Beyond that depth leaders do not tell the rows apart: any pieces do.
        let pieces = members.chunks(effort.leaf_max);
        out.extend(pieces.filter(|piece| piece.len() > 1).map(<[u32]>::to_vec));
        return;
    }
    let fanout = if depth == 1 { effort.fanouts[1] } else { 1 };
    let leaders = draw(
        &members,
        leaders_for(members.len(), effort.rows_per_leader),
        seed,
    );
    let groups = divide(corpus, &leaders, &members, fanout);
    let mut small: Vec<u32> = Vec::new();
    for (nth, group) in groups.into_iter().enumerate() {
        if divides_nothing(&group, &members) {
            // Leaders that hardly tell the rows apart.
            leaves(corpus, effort, group, DEPTH_MAX, seed, out);
        } else if group.len() < effort.leaf_max / 8 {
            small.extend(group);
            if small.len() > effort.leaf_max / 2 {
                out.push(distinct(std::mem::take(&mut small)));
            }
        } else {
            let seed = xxh3_64_with_seed(&(nth as u64).to_le_bytes(), seed);
            leaves(corpus, effort, group, depth + 1, seed, out);
        }
    }
    if small.len() > 1 {
        out.push(distinct(small));
    }
}

/// Whether hardly any of `members` is not in this one group: ties go to the first leader.
pub(super) fn divides_nothing(group: &[u32], members: &[u32]) -> bool {
    group.len() > members.len() / 8 * 7
}

fn distinct(mut members: Vec<u32>) -> Vec<u32> {
    members.sort_unstable();
    members.dedup();
    members
}

/// How many leaders so many rows are divided by, if each is to have so many of them.
pub(super) fn leaders_for(members: usize, rows_per_leader: usize) -> usize {
    (members / rows_per_leader).clamp(2, LEADERS_MAX)
}

/// Draws so many of `members`, in ascending order.
pub(super) fn draw(members: &[u32], count: usize, seed: u64) -> Vec<u32> {
    let at = |nth: u64| {
        let hash = xxh3_64_with_seed(&nth.to_le_bytes(), seed);
        members[((u128::from(hash) * members.len() as u128) >> 64) as usize]
    };
    distinct((0..count as u64).map(at).collect())
}
