//! Calls on a virtual network.

use std::time::Duration;

use super::command::*;
use super::testing::*;
use super::*;

mod calls;
