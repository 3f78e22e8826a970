//! Numbers as Java writes them, so that rows look as Flink prints them.

use std::fmt::Write;

/// As `Double.toString`: the shortest digits that read back, `1.0E10` from ten million on and below a thousandth.
pub(crate) fn write_double(out: &mut String, value: f64) {
    write_java_float(
        out,
        value.is_nan(),
        value.is_infinite(),
        value < 0.0,
        value == 0.0,
        || (value.is_sign_negative(), format!("{:e}", value.abs())),
    );
}

/// As `Float.toString`.
pub(crate) fn write_float(out: &mut String, value: f32) {
    write_java_float(
        out,
        value.is_nan(),
        value.is_infinite(),
        value < 0.0,
        value == 0.0,
        || (value.is_sign_negative(), format!("{:e}", value.abs())),
    );
}

fn write_java_float(
    out: &mut String,
    nan: bool,
    infinite: bool,
    negative: bool,
    zero: bool,
    digits: impl FnOnce() -> (bool, String),
) {
    if nan {
        out.push_str("NaN");
        return;
    }
    if infinite {
        out.push_str(if negative { "-Infinity" } else { "Infinity" });
        return;
    }
    // Rust's `{:e}` gives the shortest digits as `d.ddde±x`.
    let (signed, scientific) = digits();
    if signed {
        out.push('-');
    }
    if zero {
        out.push_str("0.0");
        return;
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    if (-3..7).contains(&exponent) {
        write_plain_digits(out, &digits, exponent);
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        out.push('.');
        out.push_str(if rest.is_empty() { "0" } else { rest });
        // Writing to a String cannot fail.
        let _ = write!(out, "E{exponent}");
    }
}

/// The number `0.d₁d₂… × 10^(exponent + 1)` without an exponent, with at least one digit on either side of the point.
fn write_plain_digits(out: &mut String, digits: &str, exponent: i32) {
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n(
            '0',
            exponent.unsigned_abs() as usize - 1,
        ));
        out.push_str(digits);
        return;
    }
    let whole = exponent as usize + 1;
    match digits.split_at_checked(whole) {
        Some((whole, fraction)) => {
            out.push_str(whole);
            out.push('.');
            out.push_str(if fraction.is_empty() { "0" } else { fraction });
        }
        None => {
            out.push_str(digits);
            out.extend(std::iter::repeat_n('0', whole - digits.len()));
            out.push_str(".0");
        }
    }
}

/// A decimal with all the digits of its scale: `BigDecimal.toPlainString`.
pub(crate) fn write_decimal(out: &mut String, unscaled: i128, scale: i8) {
    if unscaled < 0 {
        out.push('-');
    }
    let digits = unscaled.unsigned_abs().to_string();
    match usize::try_from(scale) {
        Ok(0) => out.push_str(&digits),
        Ok(scale) if digits.len() > scale => {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        Ok(scale) => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', scale - digits.len()));
            out.push_str(&digits);
        }
        Err(_) => {
            out.push_str(&digits);
            if unscaled != 0 {
                out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
            }
        }
    }
}

/// A decimal as `BigDecimal.toString`: with an exponent once it is below a millionth, as Flink's formats write it by default.
pub(crate) fn write_decimal_scientific(out: &mut String, unscaled: i128, scale: i8) {
    let digits = unscaled.unsigned_abs().to_string();
    let exponent = digits.len() as i32 - 1 - i32::from(scale);
    if scale >= 0 && exponent >= -6 {
        return write_decimal(out, unscaled, scale);
    }
    if unscaled < 0 {
        out.push('-');
    }
    let (first, rest) = digits.split_at(1);
    out.push_str(first);
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    if exponent != 0 {
        // Writing to a String cannot fail.
        let _ = write!(out, "E{exponent:+}");
    }
}

/// Reads a decimal, with or without an exponent, into `unscaled × 10^-scale`, rounding half up as Flink does.
/// `None` if it is no number or has more digits than `precision` allows.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // The digit at index i (of whole, then fraction) stands for 10^(point - 1 - i).
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let kept = point.checked_add(i32::from(scale))?;
    let mut unscaled: i128 = 0;
    let mut round_up = false;
    let mut digits_seen = 0_i32;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        if digits_seen < kept {
            unscaled = unscaled
                .checked_mul(10)?
                .checked_add(i128::from(byte - b'0'))?;
        } else if digits_seen == kept {
            round_up = byte >= b'5';
        }
        digits_seen = digits_seen.checked_add(1)?;
    }
    if unscaled != 0 {
        for _ in digits_seen..kept {
            unscaled = unscaled.checked_mul(10)?;
        }
    }
    unscaled += i128::from(round_up);
    let limit = 10_i128.checked_pow(precision.into())?;
    (unscaled < limit).then_some(if negative { -unscaled } else { unscaled })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn doubles_look_as_java_prints_them() {
        for (value, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.001, "0.001"),
            (0.000_99, "9.9E-4"),
            (123_456.789, "123456.789"),
            (1_234_567.0, "1234567.0"),
            (9_999_999.0, "9999999.0"),
            (10_000_000.0, "1.0E7"),
            (1.0e10, "1.0E10"),
            (1.25e-7, "1.25E-7"),
            (100.0, "100.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(|out| write_double(out, value)), expected);
        }
        assert_eq!(text(|out| write_float(out, 0.1)), "0.1");
        assert_eq!(text(|out| write_float(out, 3.4e38)), "3.4E38");
    }

    #[test]
    fn decimals_keep_their_scale() {
        for (unscaled, scale, expected) in [
            (1_234, 2, "12.34"),
            (-5, 3, "-0.005"),
            (0, 2, "0.00"),
            (7, 0, "7"),
            (7, -2, "700"),
            (0, -2, "0"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(text(|out| write_decimal(out, unscaled, scale)), expected);
        }
        assert_eq!(text(|out| write_decimal_scientific(out, 1, 7)), "1E-7");
        assert_eq!(
            text(|out| write_decimal_scientific(out, -123, 10)),
            "-1.23E-8"
        );
        assert_eq!(text(|out| write_decimal_scientific(out, 1, 6)), "0.000001");
        assert_eq!(text(|out| write_decimal_scientific(out, 12, 1)), "1.2");
    }

    #[test]
    fn decimals_are_read_with_rounding_and_bounds() {
        assert_eq!(parse_decimal("12.34", 10, 2), Some(1_234));
        assert_eq!(parse_decimal("-12.345", 10, 2), Some(-1_235));
        assert_eq!(parse_decimal("12", 10, 2), Some(1_200));
        assert_eq!(parse_decimal("1.5E3", 10, 1), Some(15_000));
        assert_eq!(parse_decimal("15e-1", 10, 1), Some(15));
        assert_eq!(parse_decimal(".5", 3, 1), Some(5));
        assert_eq!(parse_decimal("0.04", 3, 1), Some(0));
        assert_eq!(parse_decimal("99.95", 3, 1), None);
        assert_eq!(parse_decimal("1e999999999", 38, 0), None);
        assert_eq!(parse_decimal("1e-999999999", 38, 0), Some(0));
        assert_eq!(parse_decimal("0e2000000000", 38, 0), Some(0));
        for nonsense in ["", "-", ".", "1.2.3", "12a", "1e", "1e1.5", "0x10", " 1"] {
            assert_eq!(parse_decimal(nonsense, 38, 2), None, "{nonsense}");
        }
    }
}
