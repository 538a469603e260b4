/** Rows of weights from one dtype to another. */
import { type FloatDtype, fromFloat32 } from "../../tensor/dtype.ts";
import { blockColumns } from "../../tensor/quantized.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { QuantizedMatrix, roundBlock, roundInt4Block } from "./quantized.ts";
import { RowReader } from "./row-reader.ts";
import { dataOf } from "./tensor.ts";

export function convert(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void {
  const columns = x.shape[1]!;
  const reader = new RowReader(x);
  const store = storeInto(out);
  for (let r = 0; r < rows; r++) {
    const { values, offset } = reader.seek(xRow + r);
    store(outRow + r, values.subarray(offset, offset + columns));
  }
}

function storeInto(out: Tensor): (row: number, values: Float32Array) => void {
  const { dtype } = out;
  const columns = out.shape[1]!;
  if (dtype === "int8") return storeInt8(new QuantizedMatrix(out));
  if (dtype === "int4") return storeInt4(new QuantizedMatrix(out));
  return (row, values) => dataOf(out).set(fromFloat32(dtype as FloatDtype, values), row * columns);
}

function storeInt8(out: QuantizedMatrix): (row: number, values: Float32Array) => void {
  const codes = new Float32Array(out.paddedColumns); // zero beyond the columns
  return (row, values) => {
    out.setScale(row, 0, roundBlock(codes, 0, values, 0, values.length));
    codes.forEach((code, column) => {
      out.setCode(row, column, code);
    });
  };
}

function storeInt4(out: QuantizedMatrix): (row: number, values: Float32Array) => void {
  const block = new Float32Array(blockColumns);
  const codes = new Float32Array(blockColumns);
  return (row, values) => {
    for (let start = 0; start < out.paddedColumns; start += blockColumns) {
      block.fill(0);
      block.set(values.subarray(start, start + blockColumns));
      out.setScale(row, start, roundInt4Block(codes, block));
      codes.forEach((code, i) => {
        out.setCode(row, start + i, code);
      });
    }
  };
}
