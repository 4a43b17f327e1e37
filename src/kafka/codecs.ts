/**
 * Compression of record batches. Producers choose it, and kafkajs supports gzip alone: a batch with another compression ends its consumer
 * for good, and loses everything fetched along with it.
 */
import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import { compressFrame, decompressFrame } from 'lz4-napi'

interface Codec {
  compress(encoder: { buffer: Buffer }): Promise<Buffer>
  decompress(bytes: Buffer): Promise<Buffer>
}

const zstd: Codec = {
  compress: ({ buffer }) => promisify(zstdCompress)(buffer),
  decompress: promisify(zstdDecompress),
}
const lz4: Codec = {
  compress: ({ buffer }) => compressFrame(buffer),
  decompress: decompressFrame,
}

/** For all clients of this process. Call it before a client is built; it may be called again. */
export function registerCodecs(): void {
  const { CompressionCodecs, CompressionTypes } = kafkajs
  CompressionCodecs[CompressionTypes.Snappy] = snappy
  CompressionCodecs[CompressionTypes.LZ4] = () => lz4
  CompressionCodecs[CompressionTypes.ZSTD] = () => zstd
}
