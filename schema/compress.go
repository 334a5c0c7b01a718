package schema

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Codec says how a body is packed.
type Codec uint8

// The codecs.
const (
	CodecNone Codec = 0
	CodecZstd Codec = 1
)

const (
	// MaxBody bounds what a body may unpack to: above any honest batch, below what would hurt. One row may be this large.
	MaxBody = 256 << 20
	// worthPacking: below this, zstd's frame costs more than it saves.
	worthPacking = 128
)

// One encoder and one decoder serve the whole process: both are safe for concurrent EncodeAll and DecodeAll. A small
// window keeps the resident memory of a sidecar small; our bodies are rarely larger than it.
var (
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true))
	})
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBody), zstd.WithDecoderLowmem(true))
	})
)

// Pack compresses a body where that pays and says how. The result may be body itself.
func Pack(body []byte) ([]byte, Codec, error) {
	if len(body) < worthPacking {
		return body, CodecNone, nil
	}
	enc, err := zstdEncoder()
	if err != nil {
		return nil, 0, fmt.Errorf("zstd: %w", err)
	}
	packed := enc.EncodeAll(body, make([]byte, 0, len(body)/3))
	if len(packed) >= len(body) {
		return body, CodecNone, nil
	}
	return packed, CodecZstd, nil
}

// Unpack undoes Pack.
func Unpack(body []byte, codec Codec) ([]byte, error) {
	switch codec {
	case CodecNone:
		return body, nil
	case CodecZstd:
		dec, err := zstdDecoder()
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		out, err := dec.DecodeAll(body, nil)
		if err != nil {
			return nil, fmt.Errorf("unpack body: %w", err)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("%w: codec %d", ErrUnknown, codec)
	}
}
