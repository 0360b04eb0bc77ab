//! An order of rows in which near ones stand together: what a build or a walk touches next is
//! then often near in memory as well.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::corpus::Corpus;
use super::partition::{DEPTH_MAX, divide, divides_nothing, draw};

/// Rows that stand together without an order among them: with their codes about a page or two.
const GROUP_MAX: usize = 128;

/// Most leaders of one division: few, since a row is compared with all of them.
const LEADERS_MAX: usize = 64;

/// Adds `members` to `out`, near ones together: each goes to its nearest leader, and so again.
pub(super) fn arrange(
    corpus: &Corpus<'_>,
    members: &[u32],
    depth: usize,
    seed: u64,
    out: &mut Vec<u32>,
) {
    if members.len() <= GROUP_MAX || depth == DEPTH_MAX {
        out.extend(members);
        return;
    }
    let count = (members.len() / GROUP_MAX).clamp(2, LEADERS_MAX);
    let leaders = draw(members, count, seed);
    for (nth, group) in divide(corpus, &leaders, members, 1).iter().enumerate() {
        if divides_nothing(group, members) {
            // Leaders that hardly tell the rows apart.
            out.extend(group);
        } else {
            let seed = xxh3_64_with_seed(&(nth as u64).to_le_bytes(), seed);
            arrange(corpus, group, depth + 1, seed, out);
        }
    }
}
