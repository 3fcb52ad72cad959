//! One value of a table: what it is, and how it is printed. Files of numbers get the number, readers a rounded one.

/// How a number is printed; files of numbers hold it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// With so many decimals: `3.142`.
    Fixed(usize),
    /// With its sign: `+0.121`.
    Signed(usize),
    /// With an exponent: `3.0e-4`.
    Scientific(usize),
    /// A probability: four decimals, `<0.0001` below that.
    Probability,
}

impl Format {
    /// A number for readers.
    pub(crate) fn print(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => MISSING.to_owned(),
            _ if value.is_infinite() => if value > 0.0 { "∞" } else { "-∞" }.to_owned(),
            Self::Fixed(decimals) => without_negative_zero(format!("{value:.decimals$}")),
            Self::Signed(decimals) => without_negative_zero(format!("{value:+.decimals$}")),
            Self::Scientific(decimals) => format!("{value:.decimals$e}"),
            Self::Probability if value < 1e-4 => "<0.0001".to_owned(),
            Self::Probability => format!("{value:.4}"),
        }
    }
}

/// What stands where there is no value.
pub(crate) const MISSING: &str = "–";

/// A small negative number that is rounded to 0 is not below 0: so `-0.000` prints as `0.000`.
fn without_negative_zero(text: String) -> String {
    let zero = text.starts_with('-') && text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if zero { text.replacen('-', "", 1) } else { text }
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Words.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A number.
    Number {
        /// In full.
        value: f64,
        /// How it is printed.
        format: Format,
    },
    /// The ends of an interval: two columns of a CSV file.
    Interval {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
        /// How both are printed.
        format: Format,
    },
    /// None.
    Missing,
}

impl Value {
    /// For readers.
    pub fn print(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => count.to_string(),
            Self::Number { value, format } => format.print(*value),
            Self::Interval { low, high, format } => format!("[{}, {}]", format.print(*low), format.print(*high)),
            Self::Missing => MISSING.to_owned(),
        }
    }

    /// In full: for files of numbers. Nothing where there is no value.
    pub(crate) fn full(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => count.to_string(),
            Self::Number { value, .. } => number(*value),
            Self::Interval { low, high, .. } => format!("{}, {}", number(*low), number(*high)),
            Self::Missing => String::new(),
        }
    }

    /// The fields of a CSV record: two of an interval's column, else one.
    pub(crate) fn fields(&self, interval: bool) -> Vec<String> {
        match self {
            Self::Interval { low, high, .. } => vec![number(*low), number(*high)],
            Self::Missing if interval => vec![String::new(), String::new()],
            other => vec![other.full()],
        }
    }
}

/// As short as it reads back the same; nothing for NaN.
fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => String::new(),
        // Rust would write 300 digits.
        v if v != 0.0 && !(1e-5..1e16).contains(&v.abs()) => format!("{v:e}"),
        v => format!("{v}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_for_readers_alone() {
        let third = Value::Number { value: 1.0 / 3.0, format: Format::Signed(3) };
        assert_eq!((third.print().as_str(), third.full().as_str()), ("+0.333", "0.3333333333333333"));
        let p = |value| Value::Number { value, format: Format::Probability };
        assert_eq!([p(0.04).print(), p(3e-9).print(), p(3e-9).full()], ["0.0400", "<0.0001", "3e-9"]);
        let rate = Value::Number { value: 3e-4, format: Format::Scientific(1) };
        assert_eq!([rate.print(), rate.full()], ["3.0e-4", "0.0003"]);
        let zero = |format| Value::Number { value: -1e-9, format }.print();
        assert_eq!([zero(Format::Fixed(3)), zero(Format::Signed(3))], ["0.000", "0.000"]);
    }

    #[test]
    fn what_is_missing_is_empty_in_files_and_a_dash_for_readers() {
        let interval = Value::Interval { low: -0.5, high: 0.25, format: Format::Signed(2) };
        assert_eq!(interval.print(), "[-0.50, +0.25]");
        assert_eq!(interval.fields(true), ["-0.5", "0.25"]);
        assert_eq!(Value::Missing.fields(true), ["", ""]);
        assert_eq!((Value::Missing.print().as_str(), Value::Missing.full().as_str()), ("–", ""));
        let nan = Value::Number { value: f64::NAN, format: Format::Fixed(1) };
        assert_eq!((nan.print().as_str(), nan.full().as_str()), ("–", ""));
        let infinite = Value::Number { value: f64::INFINITY, format: Format::Fixed(1) };
        assert_eq!(infinite.full().parse::<f64>(), Ok(f64::INFINITY));
    }
}
