//! All readings of a payload in a handful of lists, however many columns it has: what a sink keeps of
//! a batch between its check and its rows. A batch of one moment costs no allocation per series.

use super::{Block, Column, Values};

/// What stands for "all moments have a value".
const ALL: u32 = u32::MAX;

/// The blocks of a payload, column after column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readings {
    /// The moments of all blocks, one block after the other.
    pub(super) times: Vec<i64>,
    pub(super) numbers: Vec<f64>,
    pub(super) texts: Vec<String>,
    pub(super) present: Vec<bool>,
    pub(super) places: Vec<Place>,
}

/// Where a column's moments and values stand. Limits of a batch are far below 2^32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) series: u32,
    pub(super) times: (u32, u32),
    /// In `texts` where `text`, in `numbers` otherwise.
    pub(super) values: (u32, u32),
    pub(super) text: bool,
    /// First in `present`, one entry per moment; [`ALL`] when none is absent.
    pub(super) present: u32,
}

/// One column, where it stands.
#[derive(Debug)]
pub struct Taken<'a> {
    /// The series' ref within its stream.
    pub series: u32,
    /// The moments of its block.
    pub times: &'a [i64],
    /// Which of them have a value; `None` when all have.
    pub present: Option<&'a [bool]>,
    /// The values of the present moments.
    pub values: Slice<'a>,
}

/// The values of a column, to copy or to take.
#[derive(Debug)]
pub enum Slice<'a> {
    /// Gauges, counters and booleans.
    Numbers(&'a [f64]),
    /// Texts; whoever takes them leaves empty ones.
    Texts(&'a mut [String]),
}

impl Readings {
    /// Bytes it takes, texts included.
    pub fn bytes(&self) -> usize {
        let texts = self.texts.iter().map(|text| text.len() + 24);
        8 * (self.times.len() + self.numbers.len())
            + self.present.len()
            + self.places.len() * size_of::<Place>()
            + texts.sum::<usize>()
    }

    /// The ref of every column, and whether its values are texts.
    pub fn series(&self) -> impl Iterator<Item = (u32, bool)> + '_ {
        self.places.iter().map(|place| (place.series, place.text))
    }

    /// Every moment, to be moved: all of a block stand together, and no two blocks share one.
    pub fn times_mut(&mut self) -> &mut [i64] {
        &mut self.times
    }

    /// Shows every column in order.
    pub fn take(&mut self, mut see: impl FnMut(Taken<'_>)) {
        let Self {
            times,
            numbers,
            texts,
            present,
            places,
        } = self;
        for place in places {
            let times = slice(times, place.times);
            see(Taken {
                series: place.series,
                times,
                present: (place.present != ALL).then(|| {
                    let count = u32::try_from(times.len()).expect("limits are below 2^32");
                    slice(present, (place.present, count))
                }),
                values: if place.text {
                    let (from, count) = place.values;
                    Slice::Texts(&mut texts[from as usize..][..count as usize])
                } else {
                    Slice::Numbers(slice(numbers, place.values))
                },
            });
        }
    }

    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.numbers.clear();
        self.texts.clear();
        self.present.clear();
        self.places.clear();
    }

    /// All of it as one block, of which it is; leaves nothing but room.
    pub(super) fn drain_block(&mut self) -> Block {
        let mut columns = Vec::with_capacity(self.places.len());
        self.take(|column| {
            columns.push(Column {
                series: column.series,
                values: match column.values {
                    Slice::Numbers(numbers) => Values::Numbers(numbers.to_vec()),
                    Slice::Texts(texts) => {
                        Values::Texts(texts.iter_mut().map(std::mem::take).collect())
                    }
                },
                present: column.present.map(<[bool]>::to_vec),
            });
        });
        let times = std::mem::take(&mut self.times);
        self.clear();
        Block { times, columns }
    }

    /// Where values of a column begin that are appended next.
    pub(super) fn end(&self) -> (usize, usize) {
        (self.numbers.len(), self.texts.len())
    }

    /// Appends which moments are present; answers where that stands.
    pub(super) fn put_present(&mut self, present: Option<impl Iterator<Item = bool>>) -> u32 {
        let Some(present) = present else { return ALL };
        let from = self.present.len();
        self.present.extend(present);
        u32::try_from(from).expect("limits are below 2^32")
    }
}

fn slice<T>(all: &[T], (from, count): (u32, u32)) -> &[T] {
    &all[from as usize..][..count as usize]
}
