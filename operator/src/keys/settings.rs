//! Flags and environment of the join keys.

use std::time::Duration;

use clap::Args;

use super::Policy;

const HOUR: u64 = 3600;

/// Flags of the join keys.
#[derive(Clone, Debug, Args)]
pub struct JoinKeyArgs {
    /// Age at which the key that signs join tokens and share links is replaced, 24h to 8760h. 0: only on request.
    #[arg(long, env = "CALLPLANE_JOIN_KEY_ROTATION", default_value = "720h", value_parser = rotation)]
    pub join_key_rotation: Duration,
    /// How long a new key is listed before it signs, 10s to 24h: the time that a mounted Secret takes to change on
    /// every machine, and some more.
    #[arg(long, env = "CALLPLANE_JOIN_KEY_LEAD", default_value = "5m", value_parser = lead)]
    pub join_key_lead: Duration,
}

impl JoinKeyArgs {
    /// What they amount to.
    pub fn policy(&self) -> Policy {
        let rotation = Some(self.join_key_rotation).filter(|rotation| !rotation.is_zero());
        Policy { rotation, lead: self.join_key_lead }
    }
}

fn rotation(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        _ => between(text, 24 * HOUR, 8760 * HOUR).map_err(|_| "is neither 0 nor between 24h and 8760h".to_owned()),
    }
}

fn lead(text: &str) -> Result<Duration, String> {
    between(text, 10, 24 * HOUR).map_err(|()| "is not between 10s and 24h".to_owned())
}

fn between(text: &str, least: u64, most: u64) -> Result<Duration, ()> {
    let parsed: jiff::SignedDuration = text.parse().map_err(drop)?;
    let time = Duration::try_from(parsed).map_err(drop)?;
    (least..=most).contains(&time.as_secs()).then_some(time).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded() {
        let args = |rotation_: &str| JoinKeyArgs {
            join_key_rotation: rotation(rotation_).unwrap(),
            join_key_lead: lead("10s").unwrap(),
        };
        assert_eq!(args("0").policy(), Policy { rotation: None, lead: Duration::from_secs(10) });
        assert_eq!(args("24h").policy().rotation, Some(Duration::from_secs(86_400)));
        for wrong in ["", "1h", "8761h", "-24h", "monthly", "00"] {
            assert!(rotation(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "0", "9s", "25h", "-5m", "soon"] {
            assert!(lead(wrong).is_err(), "{wrong:?}");
        }
    }
}
