//! What callplane promises, tried on a real cluster. One file each, named after what it proves.
//!
//! They share the cluster and break things in it, so they run one after another:
//! `make e2e` runs them one by one.

mod a_burst_is_spread_without_overcommit;
mod a_call_ends_as_it_was_told_to;
mod a_growing_call_moves_to_a_media_node;
mod a_hung_node_is_fenced;
mod a_killed_leader_leaves_one_owner_per_epoch;
mod a_killed_node_loses_no_call;
mod a_machine_without_power_loses_no_room;
mod a_media_node_speaks_only_for_itself;
mod an_operator_restart_goes_unnoticed;
mod calls_outlive_the_api_server;
mod records_wait_for_a_database_that_is_away;
mod scale_down_leaves_live_rooms_alone;
mod the_gateway_makes_rooms;
mod turn_credentials_rotate_without_a_gap;
mod two_browsers_talk;
