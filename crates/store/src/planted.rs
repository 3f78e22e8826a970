//! Bugs that can be switched on, to find out whether the simulation finds bugs.
//!
//! Only with the feature `planted-bugs`, which nothing that ships turns on; without it every question is answered "no" at compile
//! time. The switch belongs to a thread, because a simulation runs everything on one.

macro_rules! bugs {
    ($($name:ident $text:literal,)*) => {
        /// A mistake somebody could make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "`describe` says what each is")]
        pub enum Bug {
            $($name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What is wrong.
            pub fn describe(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

bugs! {
    OlderRowWins "of the runs that a compaction merges, the oldest row counts",
    TombstonesDropped "compactions drop tombstones although deeper levels hold what they hide",
    CompactedInFront "the output of a compaction within L0 is put before what was flushed meanwhile",
    FlushOutOfOrder "flushes are installed in the order they end, not in the order they began",
    BarrierIgnored "a flush for size during a barrier counts as part of the checkpoint",
    NamedFilesDeleted "files that a checkpoint names are deleted when they are compacted away",
    NameReused "a file name is used twice",
    PutErrorIgnored "a file counts as durable although its put has failed",
    ChecksumIgnored "checksums of blocks and pages are not compared",
    RangeSparesNext "a range tombstone spares what the next older run holds",
    OperandsReversed "operands from files are folded newest first",
    DroppedEarly "compactions drop rows five seconds before they expire",
    ClipIgnored "a restored file shows all its key groups, whatever range was asked for",
    RetiredFilesStay "files that nothing names are not deleted",
    FilterForgets "one key in a hundred is missing in its file's filter",
    ColdNewerSkipped "a row counts although a newer file has not been looked at",
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Switches a bug on for this thread, or all off.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether a bug is switched on.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Nothing is ever planted in what ships.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
