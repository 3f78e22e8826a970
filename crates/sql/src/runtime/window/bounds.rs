//! The windows of one moment: pure arithmetic on milliseconds, right for times before 1970 and at the ends of time.

use crate::logical::WindowKind;

/// A window: its first millisecond, and the first one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub start_ms: i64,
    pub end_ms: i64,
}

/// How many windows a moment belongs to at most.
pub(super) fn windows_max(kind: WindowKind) -> usize {
    let count = match kind {
        WindowKind::Tumble { .. } => 1,
        WindowKind::Hop {
            slide_ms, size_ms, ..
        } => size_ms / slide_ms.max(1),
        WindowKind::Cumulate {
            step_ms, size_ms, ..
        } => size_ms / step_ms.max(1),
    };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// The beginning of the slice of `slice_ms` that holds `time_ms`.
fn slice_start(time_ms: i64, slice_ms: i64, offset_ms: i64) -> i64 {
    let since = i128::from(time_ms) - i128::from(offset_ms);
    let into = since.rem_euclid(i128::from(slice_ms.max(1)));
    // `into` is smaller than `slice_ms`, so only the very first moments could fall below the smallest time.
    time_ms.saturating_sub(into as i64)
}

/// Calls `give` for each window that holds `time_ms`.
pub(super) fn windows_of(kind: WindowKind, time_ms: i64, mut give: impl FnMut(Window)) {
    match kind {
        WindowKind::Tumble { size_ms, offset_ms } => {
            let start_ms = slice_start(time_ms, size_ms, offset_ms);
            give(Window {
                start_ms,
                end_ms: start_ms.saturating_add(size_ms),
            });
        }
        WindowKind::Hop {
            slide_ms,
            size_ms,
            offset_ms,
        } => {
            let last = slice_start(time_ms, slide_ms, offset_ms);
            for back in 0..windows_max(kind) {
                let start_ms = last.saturating_sub(slide_ms.saturating_mul(back as i64));
                give(Window {
                    start_ms,
                    end_ms: start_ms.saturating_add(size_ms),
                });
            }
        }
        WindowKind::Cumulate {
            step_ms,
            size_ms,
            offset_ms,
        } => {
            let start_ms = slice_start(time_ms, size_ms, offset_ms);
            let first = slice_start(time_ms, step_ms, offset_ms).saturating_add(step_ms);
            let windows = (i128::from(start_ms) + i128::from(size_ms) - i128::from(first))
                / i128::from(step_ms.max(1));
            for step in 0..=windows.clamp(0, windows_max(kind) as i128) as i64 {
                let end_ms = first.saturating_add(step_ms.saturating_mul(step));
                give(Window { start_ms, end_ms });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(kind: WindowKind, time_ms: i64) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        windows_of(kind, time_ms, |window| {
            found.push((window.start_ms, window.end_ms))
        });
        assert!(found.len() <= windows_max(kind));
        assert!(
            found
                .iter()
                .all(|(start, end)| *start <= time_ms && time_ms < *end)
        );
        found
    }

    #[test]
    fn tumbling_windows_begin_at_the_offset_before_1970_too() {
        let kind = WindowKind::Tumble {
            size_ms: 10,
            offset_ms: 0,
        };
        assert_eq!(windows(kind, 0), [(0, 10)]);
        assert_eq!(windows(kind, 9), [(0, 10)]);
        assert_eq!(windows(kind, -1), [(-10, 0)]);
        assert_eq!(windows(kind, -10), [(-10, 0)]);
        let kind = WindowKind::Tumble {
            size_ms: 10,
            offset_ms: 3,
        };
        assert_eq!(windows(kind, 2), [(-7, 3)]);
        assert_eq!(windows(kind, 3), [(3, 13)]);
        let kind = WindowKind::Tumble {
            size_ms: 10,
            offset_ms: -4,
        };
        assert_eq!(windows(kind, 5), [(-4, 6)]);
    }

    #[test]
    fn hopping_windows_overlap() {
        let kind = WindowKind::Hop {
            slide_ms: 5,
            size_ms: 10,
            offset_ms: 0,
        };
        assert_eq!(windows(kind, 7), [(5, 15), (0, 10)]);
        assert_eq!(windows(kind, -1), [(-5, 5), (-10, 0)]);
    }

    #[test]
    fn cumulating_windows_share_their_beginning() {
        let kind = WindowKind::Cumulate {
            step_ms: 2,
            size_ms: 6,
            offset_ms: 0,
        };
        assert_eq!(windows(kind, 1), [(0, 2), (0, 4), (0, 6)]);
        assert_eq!(windows(kind, 2), [(0, 4), (0, 6)]);
        assert_eq!(windows(kind, 5), [(0, 6)]);
        assert_eq!(windows(kind, -3), [(-6, -2), (-6, 0)]);
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        for kind in [
            WindowKind::Tumble {
                size_ms: 10,
                offset_ms: 3,
            },
            WindowKind::Hop {
                slide_ms: 5,
                size_ms: 10,
                offset_ms: -1,
            },
            WindowKind::Cumulate {
                step_ms: 5,
                size_ms: 10,
                offset_ms: 0,
            },
        ] {
            for time_ms in [i64::MIN, i64::MAX] {
                windows_of(kind, time_ms, |_| {});
            }
        }
    }
}
