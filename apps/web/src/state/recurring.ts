// Something done at a steady pace while somebody can see the page, and soon after they come back to it.

/** Coming back is often told twice, by the page's visibility and by the window's focus. */
const LEAST_GAP_MS = 1_000;

export class Recurring {
  readonly #everyMs: number;
  readonly #task: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ranAt = Number.NEGATIVE_INFINITY;

  constructor(everyMs: number, task: () => void) {
    this.#everyMs = everyMs;
    this.#task = task;
  }

  /** Runs the task at once, and from then on by itself. */
  start(): void {
    document.addEventListener('visibilitychange', this.#wake);
    window.addEventListener('focus', this.#wake);
    this.#run();
  }

  stop(): void {
    document.removeEventListener('visibilitychange', this.#wake);
    window.removeEventListener('focus', this.#wake);
    clearTimeout(this.#timer);
  }

  readonly #wake = (): void => {
    this.#schedule(Math.max(0, this.#ranAt + LEAST_GAP_MS - Date.now()));
  };

  #run(): void {
    this.#ranAt = Date.now();
    this.#task();
    this.#schedule(this.#everyMs);
  }

  #schedule(delay: number): void {
    clearTimeout(this.#timer);
    if (document.visibilityState !== 'visible') return;
    this.#timer = setTimeout(() => this.#run(), delay);
  }
}
