//! What a core counts for the metrics of its driver.

/// Counts since the start of this gateway. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were not believed: malformed, oversized or from a node that is no sibling.
    pub rejected_messages: u64,
    /// Messages of an older incarnation of a sibling.
    pub fenced_messages: u64,
    /// Rows of siblings that were not taken because a limit was reached.
    pub refused_rows: u64,
    /// Rows of siblings that were not taken because they break a limit of a row.
    pub bad_rows: u64,
    /// Requests for a sibling's rows, after a gap or a digest that differed.
    pub requests: u64,
    /// Local workloads whose lease ran out.
    pub expired_leases: u64,
    /// Times that this process stood still so long that leases were extended.
    pub stalls: u64,
}
