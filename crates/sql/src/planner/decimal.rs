//! The type of exact arithmetic: Flink's rules for precision and scale (`LogicalTypeMerging` there).

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};

/// `DECIMAL(precision, scale)` while types are worked out; the precision may exceed what can be stored until [`DecimalType::stored`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecimalType {
    pub precision: i32,
    pub scale: i32,
}

impl DecimalType {
    const PRECISION_MAX: i32 = DECIMAL128_MAX_PRECISION as i32;
    /// When digits must go, this many behind the point are kept.
    const SCALE_KEPT: i32 = 6;

    /// The exact type that holds every value of an integer or decimal type.
    pub fn of(data_type: &DataType) -> Option<Self> {
        let (precision, scale) = match data_type {
            DataType::Int8 => (3, 0),
            DataType::Int16 => (5, 0),
            DataType::Int32 => (10, 0),
            DataType::Int64 => (19, 0),
            DataType::Decimal128(precision, scale) => (i32::from(*precision), i32::from(*scale)),
            _ => return None,
        };
        Some(Self { precision, scale })
    }

    pub fn plus(self, other: Self) -> Self {
        let scale = self.scale.max(other.scale);
        let whole = (self.precision - self.scale).max(other.precision - other.scale);
        Self {
            precision: whole + scale + 1,
            scale,
        }
        .stored()
    }

    pub fn times(self, other: Self) -> Self {
        Self {
            precision: self.precision + other.precision,
            scale: self.scale + other.scale,
        }
        .stored()
    }

    pub fn divided_by(self, other: Self) -> Self {
        let scale = Self::SCALE_KEPT.max(self.scale + other.precision + 1);
        Self {
            precision: self.precision - self.scale + other.scale + scale,
            scale,
        }
        .stored()
    }

    pub fn modulo(self, other: Self) -> Self {
        let scale = self.scale.max(other.scale);
        let whole = (self.precision - self.scale).min(other.precision - other.scale);
        Self {
            precision: whole + scale,
            scale,
        }
        .stored()
    }

    /// The result of `ROUND(x, digits)`.
    pub fn rounded(self, digits: i32) -> Self {
        if digits >= self.scale {
            return self;
        }
        let whole = 1 + self.precision - self.scale;
        Self {
            precision: (whole + digits.max(0)).min(Self::PRECISION_MAX),
            scale: digits.max(0),
        }
    }

    /// Fits the precision into what can be stored by giving up digits behind the point.
    fn stored(self) -> Self {
        if self.precision <= Self::PRECISION_MAX {
            return self;
        }
        let whole = self.precision - self.scale;
        let scale = (Self::PRECISION_MAX - whole).max(self.scale.min(Self::SCALE_KEPT));
        Self {
            precision: Self::PRECISION_MAX,
            scale,
        }
    }

    pub fn data_type(self) -> DataType {
        let precision = u8::try_from(self.precision.clamp(1, Self::PRECISION_MAX))
            .unwrap_or(DECIMAL128_MAX_PRECISION);
        let scale = i8::try_from(self.scale.clamp(0, i32::from(precision))).unwrap_or(0);
        DataType::Decimal128(precision, scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(precision: i32, scale: i32) -> DecimalType {
        DecimalType { precision, scale }
    }

    #[test]
    fn precision_and_scale_follow_flink() {
        // 0.908 * price of the Nexmark queries.
        assert_eq!(decimal(4, 3).times(decimal(19, 0)), decimal(23, 3));
        assert_eq!(decimal(10, 2).plus(decimal(5, 4)), decimal(13, 4));
        assert_eq!(decimal(19, 0).divided_by(decimal(4, 3)), decimal(28, 6));
        assert_eq!(decimal(10, 2).modulo(decimal(5, 4)), decimal(5, 4));
        assert_eq!(decimal(38, 18).times(decimal(38, 18)), decimal(38, 6));
        assert_eq!(decimal(38, 10).plus(decimal(38, 10)), decimal(38, 9));
        assert_eq!(decimal(10, 4).rounded(2), decimal(9, 2));
    }
}
