//! What the refs of one stream stand for.
//!
//! Agents number their series from 1 on, so nearly every look-up is an index into a table. Nothing
//! obliges them to: a ref far beyond as many as there are goes into a map, so that the table takes no
//! more than a few times the room of what it holds.

use std::collections::HashMap;
use std::time::Duration;

/// How long what a stream has defined stays in memory after it was last heard of. The catalog keeps it.
pub(crate) const KEPT: Duration = Duration::from_secs(3600);

/// Places the table may have beyond twice as many as it holds.
const SLACK: usize = 64;

/// By ref.
#[derive(Debug, Clone)]
pub(crate) struct Refs<T> {
    table: Vec<Option<T>>,
    far: HashMap<u32, T>,
    count: usize,
}

impl<T> Default for Refs<T> {
    fn default() -> Self {
        Self {
            table: Vec::new(),
            far: HashMap::new(),
            count: 0,
        }
    }
}

impl<T: Copy> Refs<T> {
    /// What the ref stands for.
    pub(crate) fn get(&self, r#ref: u32) -> Option<T> {
        match self.table.get(r#ref as usize) {
            Some(Some(found)) => Some(*found),
            _ if self.far.is_empty() => None,
            _ => self.far.get(&r#ref).copied(),
        }
    }

    /// Says what a ref stands for; answers what it stood for before.
    pub(crate) fn insert(&mut self, r#ref: u32, new: T) -> Option<T> {
        let index = r#ref as usize;
        let near = index < self.table.len() || index < 2 * self.count + SLACK;
        let former = if near && !self.far.contains_key(&r#ref) {
            if index >= self.table.len() {
                self.table.resize(index + 1, None);
            }
            self.table[index].replace(new)
        } else {
            self.far.insert(r#ref, new)
        };
        self.count += usize::from(former.is_none());
        former
    }

    /// The ref stands for nothing; answers what it stood for.
    pub(crate) fn remove(&mut self, r#ref: u32) -> Option<T> {
        let near = self.table.get_mut(r#ref as usize).and_then(Option::take);
        let former = near.or_else(|| self.far.remove(&r#ref));
        self.count -= usize::from(former.is_some());
        former
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

impl<T: Copy> Extend<(u32, T)> for Refs<T> {
    fn extend<I: IntoIterator<Item = (u32, T)>>(&mut self, new: I) {
        for (r#ref, one) in new {
            self.insert(r#ref, one);
        }
    }
}

impl<T: Copy> FromIterator<(u32, T)> for Refs<T> {
    fn from_iter<I: IntoIterator<Item = (u32, T)>>(all: I) -> Self {
        let mut refs = Self::default();
        refs.extend(all);
        refs
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Red when `get` does not look into the map behind an empty place of the table.
    #[test]
    fn says_what_a_map_says_whatever_the_refs_and_their_order() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut refs, mut map) = (Refs::default(), HashMap::new());
            for step in 0..300_u32 {
                let r#ref = match random.random_range(0..4) {
                    0 => random.random_range(0..300),
                    1 => random.random_range(0..3000),
                    2 => random.random(),
                    _ => step,
                };
                let (found, expected) = match random.random_range(0..8) {
                    0 => (refs.remove(r#ref), map.remove(&r#ref)),
                    _ => (refs.insert(r#ref, step), map.insert(r#ref, step)),
                };
                assert_eq!(found, expected, "seed {seed}");
            }
            assert_eq!(refs.len(), map.len());
            for r#ref in (0..3000).chain(map.keys().copied()) {
                assert_eq!(refs.get(r#ref), map.get(&r#ref).copied(), "seed {seed}");
            }
        }
    }

    /// Red without the bound on the table.
    #[test]
    fn a_far_ref_takes_the_room_of_one() {
        let mut refs = Refs::default();
        refs.insert(u32::MAX, 1_u64);
        refs.insert(1_000_000, 2);
        assert!(refs.table.len() <= SLACK);
        assert_eq!(
            (refs.get(u32::MAX), refs.get(1_000_000)),
            (Some(1), Some(2))
        );
    }
}
