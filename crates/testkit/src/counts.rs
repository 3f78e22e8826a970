//! Request counters by kind, as the caller sent them (what the store underneath makes of one request is its own affair).

/// What a request asks of an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A whole object is written.
    Put,
    /// An object or a part of it is read.
    Get,
    /// Only an object's size is asked for.
    Head,
    /// One object is deleted (bulk deletes count once per object).
    Delete,
    /// A listing is started.
    List,
    /// An object is copied inside the store.
    Copy,
    /// A multipart upload is started.
    MultipartStart,
    /// A part of an upload is written.
    MultipartPart,
    /// An upload becomes an object.
    MultipartComplete,
}

impl RequestKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Put,
        Self::Get,
        Self::Head,
        Self::Delete,
        Self::List,
        Self::Copy,
        Self::MultipartStart,
        Self::MultipartPart,
        Self::MultipartComplete,
    ];
}

/// How many requests of each kind there were, failed ones included, and how many bytes they asked to move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    requests: [u64; RequestKind::ALL.len()],
    /// Bytes of puts and parts.
    pub bytes_written: u64,
    /// Bytes of the ranges that gets answered.
    pub bytes_read: u64,
}

impl Counts {
    /// Requests of one kind.
    pub fn requests(&self, kind: RequestKind) -> u64 {
        self.requests[kind as usize]
    }

    /// Requests of all kinds.
    pub fn total(&self) -> u64 {
        self.requests.iter().sum()
    }

    pub(crate) fn add(&mut self, kind: RequestKind) {
        self.requests[kind as usize] += 1;
    }
}
