//! The command line as clap sees it.

use super::*;

#[test]
fn the_command_line_is_well_formed() {
    command().debug_assert();
}

#[test]
fn every_key_is_a_flag_of_every_command() {
    let matches = command()
        .try_get_matches_from(["weir-sink", "run", "--grpc-listen", "127.0.0.1:9"])
        .unwrap();
    let reader = Reader::from_args(&TABLE, &matches, &Environment::default());
    let (config, _) = Config::read(reader, &Environment::default()).unwrap();
    assert_eq!(config.grpc_listen.port(), 9);
}

#[test]
fn a_command_is_needed_and_unknown_ones_are_refused() {
    assert!(command().try_get_matches_from(["weir-sink"]).is_err());
    assert!(
        command()
            .try_get_matches_from(["weir-sink", "ruin"])
            .is_err()
    );
}
