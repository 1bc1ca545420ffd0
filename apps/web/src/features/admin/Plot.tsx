// One figure over time: a line, its scale, and what is under the pointer.

import { type PointerEvent, useId, useState } from 'react';
import { clock } from '../../lib/format';
import { top } from './figures';
import styles from './overview.module.css';

export interface Point {
  at: number;
  /** Null where there was nothing to measure. */
  value: number | null;
}

interface PlotProps {
  title: string;
  about: string;
  now: number | null;
  points: readonly Point[];
  from: number;
  to: number;
  show(value: number): string;
  least: number;
}

/** The drawing's own units; it is stretched to the width that there is. */
const WIDTH = 300;
const HEIGHT = 90;

export function Plot({ title, about, now, points, from, to, show, least }: PlotProps) {
  const name = useId();
  const [under, setUnder] = useState<Point | null>(null);
  const values = points.flatMap(({ value }) => (value === null ? [] : [value]));
  const scale = top(Math.max(0, ...values), least);
  const x = (at: number) => ((at - from) / (to - from)) * WIDTH;
  const y = (value: number) => HEIGHT - (value / scale) * HEIGHT;
  const point = (event: PointerEvent<HTMLElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    const at = from + ((event.clientX - box.left) / box.width) * (to - from);
    setUnder(nearest(points, at));
  };
  return (
    <figure className={styles.figure} aria-labelledby={name} data-testid={`figure-${title}`}>
      <figcaption className={styles.caption}>
        <span className={styles.title} id={name}>
          {title}
        </span>
        <span className={styles.value} data-testid={`value-${title}`}>
          {now === null ? '–' : show(now)}
        </span>
        <span className={styles.about}>
          {under === null || under.value === null ? about : `${show(under.value)} at ${clock(under.at)}`}
        </span>
      </figcaption>
      <div className={styles.plot} onPointerMove={point} onPointerLeave={() => setUnder(null)}>
        <span className={styles.scale} aria-hidden="true">
          {show(scale)}
        </span>
        <svg
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={inWords(title, values, show)}
        >
          <path className={styles.grid} d={`M0 0.5H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 0.5}H${WIDTH}`} />
          <path className={styles.area} d={areas(points, x, y)} />
          <path className={styles.line} d={runs(points).map((run) => line(run, x, y)).join('')} />
          {under !== null && <path className={styles.cursor} d={`M${x(under.at)} 0V${HEIGHT}`} />}
        </svg>
      </div>
      <div className={styles.times} aria-hidden="true">
        <span>{clock(from)}</span>
        <span>now</span>
      </div>
    </figure>
  );
}

function inWords(title: string, values: readonly number[], show: (value: number) => string): string {
  if (values.length === 0) return `${title}: nothing measured in the last ten minutes`;
  const [lowest, highest] = [Math.min(...values), Math.max(...values)];
  return `${title} in the last ten minutes: between ${show(lowest)} and ${show(highest)}`;
}

function nearest(points: readonly Point[], at: number): Point | null {
  let best: Point | null = null;
  for (const point of points) {
    if (point.value === null) continue;
    if (best === null || Math.abs(point.at - at) < Math.abs(best.at - at)) best = point;
  }
  return best;
}

interface Measured {
  at: number;
  value: number;
}

/** Points that follow each other without a hole. */
function runs(points: readonly Point[]): Measured[][] {
  const runs: Measured[][] = [[]];
  for (const { at, value } of points) {
    if (value === null) runs.push([]);
    else runs.at(-1)?.push({ at, value });
  }
  return runs.filter((run) => run.length > 0);
}

type Scale = (value: number) => number;

function line(run: readonly Measured[], x: Scale, y: Scale): string {
  const [first, ...rest] = run.map(({ at, value }) => `${round(x(at))} ${round(y(value))}`);
  // One alone is a dot: a line without length, with round ends.
  return `M${first}${rest.length === 0 ? 'h0' : `L${rest.join(' ')}`}`;
}

function areas(points: readonly Point[], x: Scale, y: Scale): string {
  return runs(points)
    .map((run) => {
      const [first, last] = [run[0], run.at(-1)];
      if (first === undefined || last === undefined) return '';
      return `${line(run, x, y)}L${round(x(last.at))} ${HEIGHT}L${round(x(first.at))} ${HEIGHT}Z`;
    })
    .join('');
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
