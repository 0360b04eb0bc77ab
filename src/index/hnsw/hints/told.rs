//! From the groups of a log to lists, all groups side by side.

use rayon::prelude::*;

use super::super::list::Layout;
use super::super::nodes::Nodes;
use super::LINKS_MIN;
use super::log::{Group, Log, NONE};
use super::read::{List, Lists};
use crate::schema::HnswParams;

/// A node inherits when it has lost more than one of so many of its links.
const LOST_SHARE: usize = 8;

/// Groups that one thread reads in turn, at most.
const GROUPS: usize = 4;

/// What a group tells beside the lists of level 0.
#[derive(Default)]
pub(super) struct Told {
    /// Lists of the levels above: level, node, and how many of `links` are its own.
    pub(super) above: Vec<(u8, u32, usize)>,
    pub(super) links: Vec<u32>,
    /// Links that the other node's list holds as well: level, from, to.
    pub(super) mutual: Vec<(u8, u32, u32)>,
    /// Nodes that were linked to what is not there and have few links left, and those of which
    /// nothing is told.
    pub(super) bereft: Vec<u32>,
    /// Places without a node, and how many of `gone_links` each led to on level 0.
    gone: Vec<(u32, usize)>,
    gone_links: Vec<u32>,
    /// Nodes that lost much, and how many of `lost` were theirs.
    losers: Vec<(u32, usize)>,
    lost: Vec<u32>,
}

impl Told {
    /// Places without a node, and the nodes that each led to.
    pub(super) fn gone(&self) -> impl Iterator<Item = (u32, &[u32])> {
        pieces(&self.gone, &self.gone_links)
    }

    /// Nodes that places without a node led to, on level 0.
    pub(super) fn led_to_by_gone(&self) -> &[u32] {
        &self.gone_links
    }

    /// Nodes that lost much of their lists, and the places that these led to.
    pub(super) fn losers(&self) -> impl Iterator<Item = (u32, &[u32])> {
        pieces(&self.losers, &self.lost)
    }
}

/// Each with as many of `all` as it has, one after another.
fn pieces<'a>(
    counts: &'a [(u32, usize)],
    mut all: &'a [u32],
) -> impl Iterator<Item = (u32, &'a [u32])> {
    counts.iter().map(move |&(whose, count)| {
        let own;
        (own, all) = all.split_at(count);
        (whose, own)
    })
}

/// Reads the groups of a log.
pub(super) struct Reader<'a> {
    log: &'a Log,
    nodes: &'a Nodes,
    params: &'a HnswParams,
}

impl<'a> Reader<'a> {
    pub(super) fn of(log: &'a Log, nodes: &'a Nodes, params: &'a HnswParams) -> Self {
        Self { log, nodes, params }
    }

    /// Fills the lists of level 0, and returns what else is told. Each group is let go of once it
    /// is read.
    pub(super) fn read(
        &self,
        groups: Vec<Group>,
        (layout, mut lists): (Layout, &mut [u8]),
    ) -> Vec<Told> {
        let bytes = layout.bytes();
        let mut next = 0;
        // Groups come in the order of their places, between which there may be gaps.
        let with_lists = groups.into_iter().map(|group| {
            let gap = (group.place - next) as usize;
            next = group.place + group.records;
            let rest = std::mem::take(&mut lists);
            let own;
            (own, lists) = rest[gap * bytes..].split_at_mut(group.records as usize * bytes);
            (group, own)
        });
        let with_lists: Vec<(Group, &mut [u8])> = with_lists.collect();
        // Some take far longer than others: nobody has many before him.
        let read = with_lists.into_par_iter().with_max_len(GROUPS);
        read.map(|(group, lists)| self.read_group(&group, layout, lists))
            .collect()
    }

    /// Fills the lists of a group's nodes.
    fn read_group(&self, group: &Group, layout: Layout, lists: &mut [u8]) -> Told {
        let bytes = layout.bytes();
        let mut told = Told::default();
        let mut lists_told = Lists::of(&group.bytes[group.lists_at..]);
        let mut read = List::default();
        let mut links = Vec::with_capacity(self.params.m0);
        for nth in 0..group.records {
            let place = group.place + nth;
            let from = self.log.node(place);
            let own = match group.ids.get(nth as usize) {
                Some(&id) => id.cast_signed(),
                None => i64::from(place),
            };
            for level in 0..=self.log.levels[place as usize] {
                if lists_told.next(own, &mut read).is_none() {
                    // What is no list tells nothing of this node and of those behind it.
                    let left = place..group.place + group.records;
                    let left = left.map(|place| self.log.node(place));
                    told.bereft.extend(left.filter(|&node| node != NONE));
                    return told;
                }
                links.clear();
                let by_place = group.head.by_place;
                let has_lost =
                    self.take(by_place, (place, from), level, &read, &mut links, &mut told);
                if from == NONE || level > self.nodes.level(from) {
                    continue;
                }
                if level == 0 {
                    if links.is_empty() || links.len() < LINKS_MIN && has_lost {
                        told.bereft.push(from);
                    }
                    layout.write(&mut lists[nth as usize * bytes..][..bytes], &links);
                } else {
                    told.above.push((level, from, links.len()));
                    told.links.extend(&links);
                }
            }
        }
        told
    }

    /// Takes what a list tells of into `links`, and notes what is not there; whether a node lost
    /// anything.
    fn take(
        &self,
        by_place: bool,
        (place, from): (u32, u32),
        level: u8,
        list: &List,
        links: &mut Vec<u32>,
        told: &mut Told,
    ) -> bool {
        let capacity = self.capacity(level);
        let (lost, gone) = (told.lost.len(), told.gone_links.len());
        if level == 0 && by_place && from != NONE && self.log.is_plain(list) {
            for &link in &list.links {
                match self.log.node(link as u32) {
                    NONE => told.lost.push(link as u32),
                    to if to == from => {}
                    to => links.push(to),
                }
            }
            links.truncate(capacity);
        } else {
            self.take_one_by_one(by_place, from, level, list, links, told);
        }
        if from == NONE {
            told.lost.truncate(lost);
            if level == 0 {
                told.gone.push((place, told.gone_links.len() - gone));
            }
            return false;
        }
        let count = told.lost.len() - lost;
        if level == 0 && count * LOST_SHARE > list.links.len() {
            told.losers.push((from, count));
        } else {
            told.lost.truncate(lost);
        }
        count > 0
    }

    /// As `take`, of lists that may hold anything.
    fn take_one_by_one(
        &self,
        by_place: bool,
        from: u32,
        level: u8,
        list: &List,
        links: &mut Vec<u32>,
        told: &mut Told,
    ) {
        let capacity = self.capacity(level);
        if !by_place {
            self.log.prefetch(&list.links);
        }
        for (nth, &link) in list.links.iter().enumerate() {
            let other = self.log.linked_place(by_place, link);
            let to = self.log.node(other);
            if to == NONE {
                told.lost.push(other);
                continue;
            }
            if from == NONE {
                if level == 0 {
                    told.gone_links.push(to);
                }
                continue;
            }
            // In ascending order, but for the mutual ones before the others.
            let is_known = links.last() == Some(&to)
                || nth >= list.mutual && list.mutual > 0 && links.contains(&to);
            let fits = links.len() < capacity && (level == 0 || level <= self.nodes.level(to));
            if to != from && !is_known && fits {
                links.push(to);
                if nth < list.mutual {
                    told.mutual.push((level, from, to));
                }
            }
        }
    }

    /// Most links of a list on this level.
    fn capacity(&self, level: u8) -> usize {
        if level == 0 {
            self.params.m0
        } else {
            self.params.m
        }
    }
}
