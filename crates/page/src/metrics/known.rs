//! Every number there is.

/// How a number behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up only, and begins anew with the keeper.
    Counter,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Known {
    Known { name, kind: Kind::Gauge, labels, help }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Known {
    Known { name, kind: Kind::Counter, labels, help }
}

const RUN: &[&str] = &["kind", "subject"];
const COPY: &[&str] = &["copy", "kind"];

/// In the order in which they are told.
pub const KNOWN: &[Known] = &[
    gauge("haven_build_info", &["version"], "1; which version this is"),
    gauge("haven_state", &["state"], "1 for the state of now: green, yellow, red or unknown"),
    gauge("haven_findings", &["severity"], "How many findings there are: info, warning, critical"),
    gauge(
        "haven_finding_age_seconds",
        &["key", "subject", "severity"],
        "For how long a finding is there; absent when it is not",
    ),
    gauge("haven_score_met", &["digit", "asks"], "1 if this digit of 3-2-1-1-0 is met"),
    gauge("haven_mount_up", &[], "1 if the mount answers"),
    gauge("haven_keeper_start_timestamp_seconds", &[], "When the keeper started"),
    gauge(
        "haven_recovery_point_seconds",
        &[],
        "What the loss of this machine would cost: the age of the oldest change not in the bucket",
    ),
    gauge("haven_queue_changes", &[], "Changes that are not in the bucket yet"),
    gauge("haven_queue_bytes", &[], "Bytes that are not in the bucket yet"),
    gauge("haven_store_trouble", &[], "1 if the store is in trouble just now"),
    gauge("haven_store_requests_per_second", &[], "Requests to the store, over the last seconds"),
    counter("haven_store_requests_total", &["verb"], "Requests to the store"),
    counter(
        "haven_store_request_errors_total",
        &["verb"],
        "Requests to the store that failed, tries that were repeated included",
    ),
    counter("haven_store_sent_bytes_total", &[], "Bytes sent to the store"),
    counter("haven_store_received_bytes_total", &[], "Bytes received from the store"),
    gauge(
        "haven_throughput_bytes_per_second",
        &["direction"],
        "Over the last seconds: up and down (the store), read and write (programs)",
    ),
    counter("haven_mount_read_bytes_total", &[], "Bytes that programs read from the mount"),
    counter("haven_mount_written_bytes_total", &[], "Bytes that programs wrote to the mount"),
    counter("haven_mount_requests_total", &["operation"], "Requests of the kernel to the mount"),
    gauge("haven_cache_used_bytes", &[], "Bytes in the cache directory"),
    gauge("haven_cache_limit_bytes", &[], "Bytes that it may take"),
    gauge("haven_cache_clean_bytes", &[], "Bytes in it that could be given up at once"),
    gauge("haven_cache_disk_used_bytes", &[], "Bytes used of the cache's disk, by everything"),
    gauge("haven_cache_disk_bytes", &[], "Size of the cache's disk"),
    gauge(
        "haven_cache_disk_full_timestamp_seconds",
        &[],
        "When the cache's disk will be full, if it goes on like this; absent if it won't",
    ),
    gauge("haven_copy_lag_seconds", COPY, "How far a copy is behind the library"),
    gauge(
        "haven_copy_proven_timestamp_seconds",
        COPY,
        "When all of a copy was last read and found right, by a drill or by reading it back",
    ),
    gauge(
        "haven_copy_verified_timestamp_seconds",
        COPY,
        "When a round of reading back every byte of a replica last ended with all of it right",
    ),
    gauge("haven_copy_synced_timestamp_seconds", COPY, "When a copy last took something over"),
    gauge("haven_copy_bytes", COPY, "Bytes in a copy"),
    gauge(
        "haven_copy_locked",
        COPY,
        "1 if this machine's keys can't delete what is written there, for the time of a lock at least; absent if unknown",
    ),
    gauge("haven_run_last_good", RUN, "1 if the last run of this kind was good"),
    gauge("haven_run_last_duration_seconds", RUN, "How long the last run took"),
    gauge("haven_run_last_success_timestamp_seconds", RUN, "When the last good run ended"),
    gauge("haven_run_next_timestamp_seconds", RUN, "When the next run is due"),
    gauge("haven_runs_running", &[], "Runs that are going on"),
    gauge("haven_snapshots", &["kind"], "Snapshots there are: snapshot, or point (with a database)"),
    gauge("haven_snapshot_newest_timestamp_seconds", &["kind"], "When the newest was taken"),
    gauge("haven_drill_last_timestamp_seconds", &["copy", "level"], "When the last drill was"),
    gauge("haven_drill_last_good", &["copy", "level"], "1 if it was good"),
    gauge("haven_library_files", &[], "Files in the library"),
    gauge("haven_library_file_bytes", &[], "Their size, as programs see it"),
    gauge("haven_library_stored_bytes", &[], "Bytes in the bucket"),
    gauge("haven_library_cost_per_month", &["currency"], "What a month of that costs, where prices are set"),
    gauge("haven_alerts_waiting", &[], "Messages that are not delivered yet"),
];
