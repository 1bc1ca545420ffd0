// What the gateway does now, and did in the last ten minutes.

import { useCallback, useEffect, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { ago, longTime } from '../../lib/format';
import type { ServerSample, ServerStats } from '../../sdk';
import { Recurring } from '../../state/recurring';
import { Spinner } from '../../ui/Misc';
import { Failed } from '../security/PasskeyList';
import { Plot } from './Plot';
import { bytes, count, isOver, milliseconds, perSecond, within, why } from './figures';
import styles from './overview.module.css';

interface Figure {
  title: string;
  /** What it means for whoever looks at it. */
  about: string;
  now(stats: ServerStats): number | null;
  of(sample: ServerSample): number | null;
  show(value: number): string;
  /** The smallest height of the plot, so that next to nothing does not look like a mountain. */
  least: number;
}

const last = (stats: ServerStats): ServerSample | undefined => stats.samples.at(-1);

const FIGURES: readonly Figure[] = [
  {
    title: 'Connections',
    about: 'Open WebSockets, here and at edges',
    now: (stats) => stats.now.sockets,
    of: (sample) => sample.sockets,
    show: count,
    least: 10,
  },
  {
    title: 'Messages',
    about: 'Events committed in a second',
    now: (stats) => last(stats)?.events_per_s ?? null,
    of: (sample) => sample.events_per_s,
    show: perSecond,
    least: 5,
  },
  {
    title: 'Commits',
    about: '99 of a hundred were on disk in this time',
    now: (stats) => last(stats)?.commit_p99_ms ?? null,
    of: (sample) => sample.commit_p99_ms,
    show: milliseconds,
    least: 5,
  },
  {
    title: 'Readers behind',
    about: 'Subscriptions that read from the log',
    now: (stats) => stats.now.behind,
    of: (sample) => sample.behind,
    show: count,
    least: 10,
  },
  {
    title: 'Storage',
    about: 'The database file',
    now: (stats) => stats.now.storage_bytes,
    of: (sample) => sample.storage_bytes,
    show: bytes,
    least: 1024 * 1024,
  },
  {
    title: 'Memory',
    about: 'Of the whole process',
    now: (stats) => stats.now.memory_bytes,
    of: (sample) => sample.memory_bytes,
    show: bytes,
    least: 64 * 1024 * 1024,
  },
];

const REST: readonly { name: string; of(stats: ServerStats): number | null; show?(value: number): string }[] = [
  { name: 'Rooms being read', of: (stats) => stats.now.rooms },
  { name: 'Subscriptions', of: (stats) => stats.now.subscriptions },
  { name: 'WebSockets at edges', of: (stats) => stats.now.relayed_sockets },
  { name: 'HTTP connections', of: (stats) => stats.now.connections },
  { name: 'Open files', of: (stats) => stats.now.open_files },
  { name: 'Threads', of: (stats) => stats.now.threads },
  { name: 'Cache of the file', of: (stats) => stats.now.cache_bytes, show: bytes },
  { name: 'Messages since the start', of: (stats) => stats.totals.events },
  { name: 'Deliveries since the start', of: (stats) => stats.totals.deliveries },
  { name: 'Log lines lost', of: (stats) => stats.totals.log_lines_dropped },
];

export function OverviewPage() {
  const { stats, failure, reload } = useStats();
  if (stats === null) {
    if (failure === null) return <Spinner label="Loading the overview" />;
    return isOver(failure) ? <p>{why(failure)}</p> : <Failed what="The overview" again={reload} />;
  }
  const to = stats.at;
  const samples = within(stats.samples, to - SPAN_MS);
  return (
    <>
      <p className={styles.lead}>
        Stack {stats.version}, started{' '}
        <time dateTime={new Date(stats.started_at).toISOString()} title={longTime(stats.started_at)}>
          {ago(stats.started_at)}
        </time>
        .{failure !== null && <span className={styles.stale}> {why(failure)} These are the last figures.</span>}
      </p>
      <div className={styles.figures}>
        {FIGURES.map((figure) => (
          <Plot
            key={figure.title}
            title={figure.title}
            about={figure.about}
            now={figure.now(stats)}
            points={samples.map((sample) => ({ at: sample.at, value: figure.of(sample) }))}
            from={to - SPAN_MS}
            to={to}
            show={figure.show}
            least={figure.least}
          />
        ))}
      </div>
      <h2 className={styles.heading}>Also</h2>
      <dl className={styles.rest}>
        {REST.map(({ name, of, show = count }) => {
          const value = of(stats);
          return (
            <div key={name} className={styles.pair}>
              <dt>{name}</dt>
              <dd>{value === null ? 'not known' : show(value)}</dd>
            </div>
          );
        })}
      </dl>
    </>
  );
}

/** What the gateway keeps. */
const SPAN_MS = 10 * 60_000;
/** The gateway adds a sample as often. */
const EVERY_MS = 5_000;

/** The figures, asked for again while somebody looks. */
function useStats(): { stats: ServerStats | null; failure: unknown; reload(): void } {
  const { admin } = useChat().client;
  const [stats, setStats] = useState<ServerStats | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const wanted = useRef(true);
  /** One question at a time: a gateway that is slow is not asked more for it. */
  const asking = useRef(false);
  const load = useCallback(() => {
    if (asking.current) return;
    asking.current = true;
    admin
      .stats()
      .then(
        (stats) => {
          if (!wanted.current) return;
          setStats(stats);
          setFailure(null);
        },
        (error: unknown) => wanted.current && setFailure(error ?? 'no reason'),
      )
      .finally(() => {
        asking.current = false;
      });
  }, [admin]);
  const over = failure !== null && isOver(failure);
  useEffect(() => {
    if (over) return;
    wanted.current = true;
    const looking = new Recurring(EVERY_MS, load);
    looking.start();
    return () => {
      wanted.current = false;
      looking.stop();
    };
  }, [load, over]);
  return { stats, failure, reload: load };
}
