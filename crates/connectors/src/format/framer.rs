//! Finds where a record ends in a stream of bytes that comes in chunks.
//!
//! A JSON record ends at the line end. A CSV record ends at the first line end that is not inside quotes; quotes open only at
//! the start of a field. The framer remembers what it has seen, so every byte is looked at once.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    RecordStart,
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote inside quotes: the end of the field, or the first half of a doubled quote.
    QuoteInQuoted,
    /// After the escape character; `quoted` tells where to go back to.
    Escaped {
        quoted: bool,
    },
    Comment,
}

/// Finds the ends of records.
#[derive(Clone, Debug)]
pub(crate) struct Framer {
    csv: Option<CsvMarks>,
    state: State,
}

/// The characters that matter for the ends of CSV records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CsvMarks {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) escape: Option<u8>,
    pub(crate) comments: bool,
}

impl Framer {
    /// Every line is a record.
    pub(crate) fn lines() -> Self {
        Self {
            csv: None,
            state: State::RecordStart,
        }
    }

    /// Records are CSV.
    pub(crate) fn csv(marks: CsvMarks) -> Self {
        Self {
            csv: Some(marks),
            state: State::RecordStart,
        }
    }

    /// The index in `bytes` of the line end that ends the current record; the next call starts the next record after it. `None`
    /// if the record goes on past `bytes`; the next call continues with the bytes that follow.
    pub(crate) fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let Some(marks) = self.csv else {
            return bytes.iter().position(|byte| *byte == b'\n');
        };
        for (i, byte) in bytes.iter().enumerate() {
            let byte = *byte;
            let line_end = byte == b'\n';
            self.state = match self.state {
                State::RecordStart if marks.comments && byte == b'#' => State::Comment,
                State::Quoted if marks.escape == Some(byte) => State::Escaped { quoted: true },
                State::Quoted if marks.quote == Some(byte) => State::QuoteInQuoted,
                State::Quoted | State::Escaped { quoted: true } => State::Quoted,
                State::QuoteInQuoted if marks.quote == Some(byte) => State::Quoted,
                State::Comment if !line_end => State::Comment,
                State::Escaped { quoted: false } => State::Unquoted,
                _ if line_end => {
                    self.state = State::RecordStart;
                    return Some(i);
                }
                State::RecordStart | State::FieldStart if marks.quote == Some(byte) => {
                    State::Quoted
                }
                _ if byte == marks.delimiter => State::FieldStart,
                _ if marks.escape == Some(byte) => State::Escaped { quoted: false },
                _ => State::Unquoted,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: CsvMarks = CsvMarks {
        delimiter: b',',
        quote: Some(b'"'),
        escape: Some(b'\\'),
        comments: true,
    };

    fn records(marks: CsvMarks, text: &str, chunk: usize) -> Vec<String> {
        let mut framer = Framer::csv(marks);
        let (mut found, mut current) = (Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(chunk) {
            let mut rest = piece;
            while let Some(end) = framer.find_end(rest) {
                current.extend_from_slice(&rest[..end]);
                found.push(String::from_utf8(std::mem::take(&mut current)).unwrap());
                rest = &rest[end + 1..];
            }
            current.extend_from_slice(rest);
        }
        found.push(String::from_utf8(current).unwrap());
        found
    }

    #[test]
    fn line_ends_inside_quotes_do_not_end_a_record_whatever_the_chunks() {
        let text =
            "a,\"b\nc\"\n\"x\"\"\ny\",z\n# don't \"open\nq\"uote,1\na\\\nb\n\"e\\\"\nf\"\nlast";
        let expected = [
            "a,\"b\nc\"",
            "\"x\"\"\ny\",z",
            "# don't \"open",
            "q\"uote,1",
            "a\\\nb",
            "\"e\\\"\nf\"",
            "last",
        ];
        for chunk in 1..text.len() {
            assert_eq!(records(MARKS, text, chunk), expected);
        }
        let plain = CsvMarks {
            quote: None,
            escape: None,
            comments: false,
            ..MARKS
        };
        assert_eq!(records(plain, "a,\"b\nc\"\n#d", 3), ["a,\"b", "c\"", "#d"]);
    }
}
