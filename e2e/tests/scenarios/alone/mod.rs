//! One after the other: they stop what all share, or count what happens to the whole cluster, or hold browsers to their pictures.

mod a_burst_is_spread_without_overcommit;
mod a_growing_call_moves_to_a_media_node;
mod a_hung_node_is_fenced;
mod a_killed_leader_leaves_one_owner_per_epoch;
mod a_killed_node_loses_no_call;
mod a_machine_without_power_loses_no_room;
mod an_operator_restart_goes_unnoticed;
mod calls_outlive_the_api_server;
mod the_gateway_makes_rooms;
mod two_browsers_talk;
