//! Randomness by place instead of by sequence: a draw is a pure function of a row's number and the purpose of the draw.
//!
//! So row `n` is the same whichever reader makes it, wherever it starts, and whichever other columns are made with it.
//! The mixing is SplitMix64's finaliser, which passes the usual statistical batteries on counters.

/// The draws of one row.
#[derive(Clone, Copy)]
pub(crate) struct Draws(u64);

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Where a draw with 64 random bits falls in `0..n`; `n` must not be zero.
fn scale(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

impl Draws {
    /// The draws of row `number`.
    pub(crate) fn of(number: u64) -> Self {
        Self(mix(number.wrapping_mul(GAMMA).wrapping_add(GAMMA)))
    }

    /// The draws of row `number` in the stream that `seed` names.
    pub(crate) fn seeded(seed: u64, number: u64) -> Self {
        Self::of(number ^ mix(seed))
    }

    /// Further draws below one purpose.
    pub(crate) fn within(self, purpose: u64) -> Self {
        Self(self.bits(purpose))
    }

    /// 64 random bits for this purpose.
    pub(crate) fn bits(self, purpose: u64) -> u64 {
        mix(self.0.wrapping_add(purpose.wrapping_mul(GAMMA)))
    }

    /// A number in `0..n`; zero if `n` is zero.
    pub(crate) fn below(self, purpose: u64, n: u64) -> u64 {
        scale(self.bits(purpose), n)
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(self, purpose: u64) -> f64 {
        (self.bits(purpose) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A price in cents: its logarithm is uniform between 1 and a million units.
    pub(crate) fn price(self, purpose: u64) -> i64 {
        (10_f64.powf(self.unit(purpose) * 6.0) * 100.0).round() as i64
    }

    /// A string of 3 to `chars_max` − 1 letters of which one in 13 is `special`; blanks at its ends are cut off.
    /// Returns its length. `chars_max` is more than 3 and at most 128.
    pub(crate) fn word(
        self,
        purpose: u64,
        chars_max: usize,
        special: u8,
        out: &mut Vec<u8>,
    ) -> usize {
        let start = self.bits(purpose);
        let length = 3 + scale(start, chars_max as u64 - 3) as usize;
        let mut buffer = [0_u8; 128];
        let mut state = start;
        for chunk in buffer[..length].chunks_mut(4) {
            state = state.wrapping_add(GAMMA);
            let mut bits = mix(state);
            for byte in chunk {
                // 13 × 26 equally likely values: the first 26 are the special character.
                let value = ((bits & 0xFFFF) * 338) >> 16;
                *byte = if value < 26 {
                    special
                } else {
                    b'a' + (value % 26) as u8
                };
                bits >>= 16;
            }
        }
        let word = buffer[..length].trim_ascii();
        out.extend_from_slice(word);
        word.len()
    }

    /// Filler that brings a row of `bytes_so_far` to `bytes_average` on average, give or take a fifth of what is missing.
    pub(crate) fn filler(
        self,
        purpose: u64,
        bytes_so_far: u64,
        bytes_average: u64,
        out: &mut Vec<u8>,
    ) {
        let Some(missing) = bytes_average.checked_sub(bytes_so_far) else {
            return;
        };
        let delta = (missing as f64 * 0.2).round() as u64;
        let start = self.bits(purpose);
        let length = (missing - delta + scale(start, 2 * delta)) as usize;
        letters(start, length, out);
    }
}

/// `length` letters from `a` to `z`, eight at a time.
fn letters(start: u64, length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    out.reserve(length + 8);
    let mut state = start;
    while out.len() < end {
        state = state.wrapping_add(GAMMA);
        out.extend_from_slice(&eight_letters(mix(state)));
    }
    out.truncate(end);
}

/// Each byte `b` becomes the letter number `b * 26 / 256`, four bytes per multiplication.
fn eight_letters(bits: u64) -> [u8; 8] {
    const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
    let even = (((bits & EVEN) * 26) >> 8) & EVEN;
    let odd = (((bits >> 8) & EVEN) * 26) & !EVEN;
    ((even | odd) + u64::from_le_bytes([b'a'; 8])).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_letters_and_all_of_them_occur() {
        let mut out = Vec::new();
        letters(7, 10_000, &mut out);
        assert_eq!(out.len(), 10_000);
        let mut seen = [0_u32; 26];
        for byte in out {
            assert!(byte.is_ascii_lowercase());
            seen[usize::from(byte - b'a')] += 1;
        }
        assert!(
            seen.iter().all(|count| (250..550).contains(count)),
            "{seen:?}"
        );
    }

    #[test]
    fn filler_reaches_the_average_and_is_empty_past_it() {
        let mut total = 0;
        for number in 0..2_000 {
            let mut out = Vec::new();
            Draws::of(number).filler(3, 32, 100, &mut out);
            assert!((54..=81).contains(&out.len()));
            total += out.len();
        }
        assert!((67.0..69.0).contains(&(total as f64 / 2_000.0)), "{total}");
        let mut out = Vec::new();
        Draws::of(0).filler(3, 101, 100, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn words_keep_to_their_length_and_prices_to_their_range() {
        let mut logarithms = 0.0;
        for number in 0..5_000 {
            let mut out = Vec::new();
            let length = Draws::of(number).word(1, 20, b' ', &mut out);
            assert_eq!(length, out.len());
            assert!(out.len() <= 19);
            assert!(!out.starts_with(b" ") && !out.ends_with(b" "));
            let price = Draws::of(number).price(2);
            assert!((100..=100_000_000).contains(&price));
            logarithms += (price as f64).log10();
        }
        assert!((4.9..5.1).contains(&(logarithms / 5_000.0)));
    }
}
