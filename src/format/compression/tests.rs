use super::*;

#[test]
fn a_codec_has_the_number_that_kafka_gave_it() {
    assert_eq!(Codec::ALL.map(Codec::id), [0, 1, 2, 3, 4]);
    for codec in Codec::ALL {
        assert_eq!(Codec::from_id(codec.id()), Ok(codec));
    }
    for id in 5..=255 {
        let error = Codec::from_id(id).unwrap_err();
        assert_eq!(error, CompressionError::Unsupported { codec: id, why: "no codec has this number" });
    }
}

#[test]
fn bytes_without_a_codec_are_lent_as_they_are() {
    assert!(matches!(decompress(Codec::None, b"abc", 0), Ok(Cow::Borrowed(b"abc"))));
    assert!(matches!(compress(Codec::None, b"abc"), Ok(Cow::Borrowed(b"abc"))));
}

#[test]
fn each_failure_has_the_code_that_tells_a_client_the_truth() {
    let code = |error: CompressionError| Rejection::from(error).kafka_code();
    assert_eq!(code(CompressionError::Unsupported { codec: 5, why: "x" }), 76);
    assert_eq!(code(CompressionError::Malformed(Malformed::new("gzip", 0, "a", "b"))), 87);
    assert_eq!(code(CompressionError::TooLarge { limit: 1 }), 87);
}

#[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
#[test]
fn a_codec_that_is_not_built_in_says_which_feature_is_missing() {
    let features = [
        (Codec::Gzip, cfg!(feature = "gzip"), "this build has no feature `gzip`"),
        (Codec::Snappy, cfg!(feature = "snappy"), "this build has no feature `snappy`"),
        (Codec::Lz4, cfg!(feature = "lz4"), "this build has no feature `lz4`"),
        (Codec::Zstd, cfg!(feature = "zstd"), "this build has no feature `zstd`"),
    ];
    for (codec, _, why) in features.into_iter().filter(|(_, built_in, _)| !built_in) {
        let left_out = CompressionError::Unsupported { codec: codec.id(), why };
        assert_eq!(decompress(codec, b"abc", 10), Err(left_out.clone()));
        assert_eq!(compress(codec, b"abc"), Err(left_out));
    }
}

#[cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
mod with_all_codecs {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// What the tools `gzip`, `lz4` and `zstd` make of the six bytes, and one bare snappy block made by hand.
    #[test]
    fn streams_of_other_programs_are_read() {
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c\x4a\x4e\x4c\x4a\x06\0\x4c\x99\x6e\x72\x06\0\0\0";
        let snappy = b"\x06\x14abcabc";
        let lz4 = b"\x04\x22\x4d\x18\x64\x40\xa7\x06\0\0\x80abcabc\0\0\0\0\x7b\xe1\x59\xac";
        let zstd = b"\x28\xb5\x2f\xfd\x04\x58\x31\0\0abcabc\xe6\x41\x5f\xb1";
        for (codec, stream) in CODECS.into_iter().zip([&gzip[..], snappy, lz4, zstd]) {
            assert_eq!(decompress(codec, stream, 6).as_deref(), Ok(&b"abcabc"[..]), "{codec:?}");
        }
    }

    /// One byte more than the limit is too much, and the limit itself is not.
    #[test]
    fn the_limit_is_exact() {
        let records = vec![7; 100_000];
        for codec in CODECS {
            let packed = compress(codec, &records).unwrap();
            assert_eq!(decompress(codec, &packed, records.len()).as_deref(), Ok(&records[..]), "{codec:?}");
            let error = decompress(codec, &packed, records.len() - 1).unwrap_err();
            assert_eq!(error, CompressionError::TooLarge { limit: records.len() - 1 }, "{codec:?}");
        }
    }

    #[test]
    fn no_records_are_a_valid_stream() {
        for codec in CODECS {
            let packed = compress(codec, &[]).unwrap();
            assert_eq!(decompress(codec, &packed, 0).as_deref(), Ok(&[][..]), "{codec:?}");
        }
    }

    #[test]
    fn streams_one_after_the_other_are_read_as_one() {
        for codec in CODECS {
            let twice = [compress(codec, b"abc").unwrap(), compress(codec, b"def").unwrap()].concat();
            assert_eq!(decompress(codec, &twice, 6).as_deref(), Ok(&b"abcdef"[..]), "{codec:?}");
            assert_eq!(
                decompress(codec, &twice, 5),
                Err(CompressionError::TooLarge { limit: 5 }),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn bytes_behind_a_stream_are_refused() {
        for codec in CODECS {
            let longer = [compress(codec, b"abc").unwrap(), b"xxxxxxxx".as_slice().into()].concat();
            let error = decompress(codec, &longer, 100).unwrap_err();
            assert!(matches!(error, CompressionError::Malformed(_)), "{codec:?}: {error}");
        }
    }

    #[test]
    fn a_snappy_block_that_claims_gigabytes_allocates_nothing() {
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(
            decompress(Codec::Snappy, &bomb, 1 << 20),
            Err(CompressionError::TooLarge { limit: 1 << 20 })
        );
    }

    #[test]
    fn a_snappy_frame_that_breaks_a_rule_is_refused_at_the_byte() {
        let packed = compress(Codec::Snappy, b"abcabc").unwrap();
        assert_eq!(packed[..20], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x08");
        let refused = |change: fn(&mut Vec<u8>)| {
            let mut bytes = packed.to_vec();
            change(&mut bytes);
            match decompress(Codec::Snappy, &bytes, 100).unwrap_err() {
                CompressionError::Malformed(error) => (error.field, error.at),
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused(|bytes| bytes[15] = 2), ("snappy lowest version", 12));
        assert_eq!(refused(|bytes| bytes[16] = 0xff), ("snappy block length", 16));
        assert_eq!(refused(|bytes| bytes[19] = 9), ("snappy block", 20));
        assert_eq!(refused(|bytes| bytes[20] = 5), ("snappy block", 20));
        assert_eq!(refused(|bytes| bytes.truncate(18)), ("snappy block length", 16));
        assert_eq!(refused(|bytes| bytes.truncate(14)), ("snappy lowest version", 12));
        assert_eq!(decompress(Codec::Snappy, &packed[..16], 100).as_deref(), Ok(&[][..]), "a header alone");
    }

    proptest! {
        #[test]
        fn any_records_survive_the_round_trip(
            records in proptest::collection::vec(0u8..4, 0..100_000),
            codec in proptest::sample::select(CODECS.to_vec()),
        ) {
            let packed = compress(codec, &records).unwrap();
            let read = decompress(codec, &packed, records.len()).unwrap();
            prop_assert_eq!(&read[..], &records[..]);
        }

        #[test]
        fn damage_never_yields_more_than_the_limit_and_never_panics(
            records in proptest::collection::vec(0u8..4, 1..3000),
            codec in proptest::sample::select(CODECS.to_vec()),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
            limit in 0..4000usize,
        ) {
            let mut packed = compress(codec, &records).unwrap().into_owned();
            for (index, byte) in damage {
                let at = index.index(packed.len());
                packed[at] = byte;
            }
            if let Ok(read) = decompress(codec, &packed, limit) {
                prop_assert!(read.len() <= limit);
            }
        }
    }
}
