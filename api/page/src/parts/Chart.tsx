// Lines over a scale, drawn by uPlot in the colors of the theme.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { color, useTheme } from "../lib/theme";

export interface Line {
  name: string;
  token: string;
  values: readonly (number | null)[];
  fill?: boolean;
  /** Whether it is a row of bars rather than a line. */
  stepped?: boolean;
}

interface Shown {
  /** What it shows, in words: the picture for whoever cannot see it. */
  label: string;
  x: readonly number[];
  lines: readonly Line[];
  xName: string;
  yName: string;
  xText?: (value: number) => string;
  yText?: (value: number) => string;
  /** Where ticks are; left out, uPlot chooses. */
  xTicks?: readonly number[];
  yTicks?: readonly number[];
  xRange?: [number, number];
  yRange?: [number, number];
  /** A line from top to bottom: the threshold, say. */
  mark?: number | null;
  /** A point on the plane. */
  point?: [number, number] | null;
  height?: number;
}

const WIDTH = 640;
const NARROW = 440;

export function Chart(shown: Shown) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const marks = useRef({ mark: shown.mark, point: shown.point });
  const theme = useTheme();
  const height = shown.height ?? 260;
  marks.current = { mark: shown.mark, point: shown.point };

  useEffect(() => {
    const holder = box.current;
    if (holder === null) return undefined;
    const made = new uPlot(
      options(shown, holder.clientWidth || WIDTH, height, () => marks.current),
      [shown.x as number[], ...shown.lines.map((line) => line.values as (number | null)[])] as uPlot.AlignedData,
      holder,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: holder.clientWidth, height }));
    watch.observe(holder);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shown.x, shown.lines, theme, height]);

  useEffect(() => plot.current?.redraw(false), [shown.mark, shown.point]);

  return (
    <figure class="chart">
      <figcaption class="legend hint">
        {shown.lines.map((line) => (
          <span key={line.name}>
            <span class="swatch" style={{ background: `var(--${line.token})` }} />
            {line.name}
          </span>
        ))}
      </figcaption>
      <div ref={box} role="img" aria-label={shown.label} />
    </figure>
  );
}

interface Marks {
  mark?: number | null | undefined;
  point?: [number, number] | null | undefined;
}

function options(shown: Shown, width: number, height: number, marks: () => Marks): uPlot.Options {
  const axis = (name: string, text: Shown["xText"], ticks: Shown["xTicks"], size: number): uPlot.Axis => ({
    label: name,
    labelSize: 20,
    size,
    stroke: color("muted"),
    font: `12px ${color("font")}`,
    labelFont: `12px ${color("font")}`,
    grid: { stroke: color("line"), width: 1 },
    ticks: { show: false },
    ...(text && { values: (_: uPlot, values: number[]) => values.map(text) }),
    ...(ticks && { splits: (plot: uPlot) => [...fewer(ticks, plot)] }),
  });
  return {
    width,
    height,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: false, ...(shown.xRange && { range: shown.xRange }) },
      y: { ...(shown.yRange && { range: shown.yRange }) },
    },
    axes: [axis(shown.xName, shown.xText, shown.xTicks, 28), axis(shown.yName, shown.yText, shown.yTicks, 52)],
    series: [
      {},
      ...shown.lines.map(
        (line): uPlot.Series => ({
          stroke: color(line.token),
          width: 2,
          points: { show: false },
          ...(line.stepped && { paths: uPlot.paths.stepped?.({ align: 1 }) as uPlot.Series.PathBuilder }),
          ...(line.fill && { fill: `${color(line.token)}33` }),
        }),
      ),
    ],
    hooks: { draw: [(plot) => drawMarks(plot, marks())] },
  };
}

/** Every other tick where all would run into each other. */
function fewer(ticks: readonly number[], plot: uPlot): readonly number[] {
  return plot.width < NARROW ? ticks.filter((_, place) => place % 2 === 0) : ticks;
}

function drawMarks(plot: uPlot, { mark, point }: Marks): void {
  const { ctx } = plot;
  ctx.save();
  if (mark !== null && mark !== undefined) {
    const x = Math.round(plot.valToPos(mark, "x", true));
    ctx.strokeStyle = color("text");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, plot.bbox.top);
    ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
    ctx.stroke();
  }
  if (point) {
    ctx.fillStyle = color("text");
    ctx.beginPath();
    ctx.arc(plot.valToPos(point[0], "x", true), plot.valToPos(point[1], "y", true), 5 * devicePixelRatio, 0, 2 * Math.PI);
    ctx.fill();
  }
  ctx.restore();
}
