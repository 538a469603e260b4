/** Rows of weights from one dtype to another. */
import { type FloatDtype, fromFloat32 } from "../../tensor/dtype.ts";
import { blockColumns, blockOf, blocksOf } from "../../tensor/quantized.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { QuantizedMatrix, roundInt4Block, roundRow } from "./quantized.ts";
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
    out.setScale(row, 0, roundRow(codes, values));
    codes.forEach((code, column) => {
      out.setCode(row, column, code);
    });
  };
}

function storeInt4(out: QuantizedMatrix): (row: number, values: Float32Array) => void {
  const columnsOf = columnsByBlock(blocksOf(out.columns) * blockColumns);
  const codes = new Float32Array(blockColumns);
  return (row, values) => {
    for (const columns of columnsOf) {
      out.setScale(
        row,
        columns[0]!,
        roundInt4Block(
          codes,
          Float32Array.from(columns, (c) => values[c] ?? 0),
        ),
      );
      columns.forEach((column, i) => {
        if (column < out.paddedColumns) out.setCode(row, column, codes[i]!);
      });
    }
  };
}

/** The columns of each block, in ascending order. */
function columnsByBlock(columns: number): number[][] {
  const found: number[][] = [];
  for (let column = 0; column < columns; column++) {
    found[blockOf(column)] ??= [];
    found[blockOf(column)]!.push(column);
  }
  return found;
}
