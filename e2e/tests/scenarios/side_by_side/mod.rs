//! At the same time: each has rooms, nodes and a pool of its own, and mostly waits.

mod a_call_ends_as_it_was_told_to;
mod a_media_node_speaks_only_for_itself;
mod records_wait_for_a_database_that_is_away;
mod scale_down_leaves_live_rooms_alone;
mod turn_credentials_rotate_without_a_gap;
