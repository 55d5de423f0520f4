//! CPU and memory of a process.

/// What the operating system has counted of a process.
pub struct Usage {
    pub cpu_ms: u64,
    pub peak_mb: f64,
}

pub fn usage(pid: u32) -> Usage {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold blanks; user and system time are the 12th and 13th field after it, in 1/100 s.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: f64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    Usage { cpu_ms: ticks * 10, peak_mb: kilobytes / 1024.0 }
}
