//! Measures what the process uses: CPU and memory from `/proc/self`, its CPU limit from its control group.
//!
//! Use is read from the process and not from the control group, because a node that runs outside a
//! container shares its group with others. The limit stands in the group, version 1 or 2.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Clock ticks per second in `/proc/self/stat`: `USER_HZ`, 100 on every architecture that Rust's Linux
/// targets run on.
const TICKS_PER_SECOND: u64 = 100;

/// CPU and rates are averaged over about this long.
const SMOOTHING: Duration = Duration::from_secs(10);

/// What has been used since the process started, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// CPU time.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub memory: i64,
    /// Media bytes sent.
    pub bytes_out: u64,
    /// Packets received and sent.
    pub packets: u64,
}

/// Media counters since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent, UDP payload.
    pub bytes_out: u64,
    /// Packets received and sent.
    pub packets: u64,
}

impl Counters {
    /// Reads `/proc/self`; what cannot be read is zero.
    pub fn read(traffic: Traffic) -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        Self {
            cpu: cpu_time(&stat).unwrap_or_default(),
            memory: resident(&statm).unwrap_or_default(),
            bytes_out: traffic.bytes_out,
            packets: traffic.packets,
        }
    }
}

/// CPU time in the text of `/proc/self/stat`.
fn cpu_time(stat: &str) -> Option<Duration> {
    // The name of the program may hold spaces and parentheses: fields are counted from the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Resident bytes in the text of `/proc/self/statm`.
fn resident(statm: &str) -> Option<i64> {
    /// Pages are larger on some machines; `statm` is then off by that factor, so ask the auxiliary vector.
    fn page_size() -> i64 {
        const AT_PAGESZ: u64 = 6;
        let words = fs::read("/proc/self/auxv").unwrap_or_default();
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
        words
            .chunks_exact(16)
            .find(|pair| word(&pair[..8]) == AT_PAGESZ)
            .and_then(|pair| i64::try_from(word(&pair[8..])).ok())
            .unwrap_or(4096)
    }
    Some(statm.split_ascii_whitespace().nth(1)?.parse::<i64>().ok()? * page_size())
}

/// Rates, smoothed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// CPU, in thousandths of a core.
    pub cpu_millis: f64,
    /// Media sent, in bits per second.
    pub bits_out: f64,
    /// Packets per second.
    pub packets: f64,
    /// Resident memory in bytes, now.
    pub memory: i64,
}

/// Makes rates of counters.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    last: Option<(Instant, Counters)>,
    rates: Rates,
}

impl Meter {
    /// Rates after reading `counters` at `now`. Zero at the first reading.
    pub fn read(&mut self, now: Instant, counters: Counters) -> Rates {
        self.rates.memory = counters.memory;
        if let Some((then, before)) = self.last {
            let seconds = now.saturating_duration_since(then).as_secs_f64();
            if seconds <= 0.0 {
                return self.rates;
            }
            let rate = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
            // From zero, too: the work of starting, measured over a moment, must not make a new node look overloaded.
            let share = 1.0 - (-seconds / SMOOTHING.as_secs_f64()).exp();
            let towards = |old: f64, new: f64| old + share * (new - old);
            let cpu = counters.cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0 / seconds;
            self.rates.cpu_millis = towards(self.rates.cpu_millis, cpu);
            self.rates.bits_out = towards(self.rates.bits_out, 8.0 * rate(counters.bytes_out, before.bytes_out));
            self.rates.packets = towards(self.rates.packets, rate(counters.packets, before.packets));
        }
        self.last = Some((now, counters));
        self.rates
    }
}

/// CPU that the process may use, in thousandths of a core: its group's limit, or all cores it may run on.
pub fn cpu_limit_millis() -> i32 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let read = |path: &Path| fs::read_to_string(path).ok();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = i32::try_from(cores).unwrap_or(i32::MAX).saturating_mul(1000);
    quota(&groups, &read).map_or(cores, |quota| quota.clamp(1, cores.max(1)))
}

/// Reads a file of a control group.
type Group<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Reads a quota in thousandths of a core.
type Limit = fn(&Group<'_>) -> Option<i64>;

/// The smallest quota on the way from the process's group up to the root of what it can see.
fn quota(groups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<i32> {
    let mut smallest = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (roots, limit): (&[&str], Limit) = if controllers.is_empty() {
            (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], quota_v2)
        } else if controllers.split(',').any(|c| c == "cpu") {
            (&["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"], quota_v1)
        } else {
            continue;
        };
        for root in roots {
            // Inside a container the group's own path may not exist: its mount shows the group as the root.
            let inside = Path::new(group.trim_start_matches('/'));
            for folder in inside.ancestors().map(|part| Path::new(root).join(part)) {
                let file = |name: &str| read(&PathBuf::from(&folder).join(name));
                smallest = smallest.into_iter().chain(limit(&file)).min();
            }
        }
    }
    smallest.and_then(|millis| i32::try_from(millis).ok())
}

fn quota_v2(file: &Group<'_>) -> Option<i64> {
    let text = file("cpu.max")?;
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<i64>().ok()? * 1000 / period.parse::<i64>().ok()?.max(1))
}

fn quota_v1(file: &Group<'_>) -> Option<i64> {
    let quota = file("cpu.cfs_quota_us")?.trim().parse::<i64>().ok().filter(|q| *q > 0)?;
    let period = file("cpu.cfs_period_us")?.trim().parse::<i64>().ok()?;
    Some(quota * 1000 / period.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_limit_is_the_smallest_quota_on_the_way_up() {
        let v2 = "0::/kubepods.slice/pod7/media\n";
        let v1 = "4:memory:/kubepods/pod7/media\n3:cpu,cpuacct:/kubepods/pod7/media\n";
        let mixed = "1:name=systemd:/init.scope\n0::/\n";
        type Files = &'static [(&'static str, &'static str)];
        let cases: [(&str, Files, Option<i32>); 6] = [
            (v2, &[("/sys/fs/cgroup/kubepods.slice/pod7/media/cpu.max", "150000 100000\n")], Some(1500)),
            (
                v2,
                &[
                    ("/sys/fs/cgroup/kubepods.slice/pod7/media/cpu.max", "max 100000\n"),
                    ("/sys/fs/cgroup/kubepods.slice/cpu.max", "400000 100000\n"),
                ],
                Some(4000),
            ),
            ("0::/\n", &[("/sys/fs/cgroup/cpu.max", "50000 100000")], Some(500)),
            (
                v1,
                &[
                    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"),
                    ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ],
                Some(2000),
            ),
            (
                v1,
                &[
                    ("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod7/media/cpu.cfs_quota_us", "-1\n"),
                    ("/sys/fs/cgroup/cpu,cpuacct/kubepods/pod7/media/cpu.cfs_period_us", "100000\n"),
                ],
                None,
            ),
            (mixed, &[], None),
        ];
        for (groups, files, expected) in cases {
            let read =
                |path: &Path| files.iter().find(|(p, _)| Path::new(p) == path).map(|(_, text)| (*text).to_owned());
            assert_eq!(quota(groups, &read), expected, "{groups} {files:?}");
        }
    }

    #[test]
    fn cpu_time_is_found_behind_any_program_name() {
        let stat = "42 (a (b) c d) S 1 42 42 0 -1 4194560 9000 0 10 0 250 50 0 0 20 0 9 0 500 1000 2000";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_time(""), None);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let used = Counters::read(Traffic::default());
        assert!(used.memory > 1 << 20, "{used:?}");
        assert!(cpu_limit_millis() >= 1);
    }

    #[test]
    fn rates_follow_the_counters_smoothly() {
        let start = crate::system::now();
        let mut meter = Meter::default();
        let at = |s: u64, cpu: u64| {
            let cpu = Duration::from_millis(cpu);
            (start + Duration::from_secs(s), Counters { cpu, memory: 7, bytes_out: cpu.as_millis() as u64, packets: 0 })
        };
        let mut read = |(now, counters)| meter.read(now, counters);
        assert_eq!(read(at(0, 100)).cpu_millis, 0.0);
        let first = read(at(1, 600));
        assert_eq!((first.cpu_millis.round(), first.bits_out.round(), first.memory), (48.0, 381.0, 7));
        let after_a_spike = read(at(2, 1600));
        assert!((135.0..142.0).contains(&after_a_spike.cpu_millis), "{after_a_spike:?}");
        assert_eq!(read(at(2, 1600)).cpu_millis, after_a_spike.cpu_millis, "no time has passed");
        let lasting = (3..60).map(|s| read(at(s, 600 + s * 500))).last().unwrap();
        assert!((490.0..501.0).contains(&lasting.cpu_millis), "{lasting:?}");
    }
}
