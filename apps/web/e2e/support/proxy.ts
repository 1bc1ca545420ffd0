// A gateway behind a proxy under TLS, configured by the file of docs/proxies that its users copy, and a browser that
// takes its certificate for good.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type LaunchOptions } from '@playwright/test';
import { Gateway } from './gateway';

const documented = resolve(dirname(fileURLToPath(import.meta.url)), '../../../../docs/proxies');
const START_TIMEOUT_MS = 20_000;

const FILES = { nginx: 'nginx.conf', caddy: 'Caddyfile', haproxy: 'haproxy.cfg' } as const;

export type Kind = keyof typeof FILES;

export const KINDS = Object.keys(FILES) as Kind[];

export class Proxied {
  private constructor(
    readonly gateway: Gateway,
    readonly url: string,
    private readonly proxy: ChildProcess,
    private readonly home: string,
  ) {}

  static async start(kind: Kind): Promise<Proxied> {
    const home = mkdtempSync(join(tmpdir(), `stack-${kind}-`));
    makeCertificate(home);
    const port = await freePort();
    const url = `https://localhost:${port}`;
    const env = { STACK_PUBLIC_URL: url, STACK_TRUSTED_PROXIES: '127.0.0.1/32' };
    const gateway = await Gateway.start({ env });
    const [program, ...options] = command(kind, home, port, new URL(gateway.url).port);
    const proxy = spawn(find(program as string), options, {
      cwd: home,
      env: { ...process.env, HOME: home, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // A test that is cut off for its time cleans up nothing; its proxy must not outlive it.
    const orphaned = () => proxy.kill('SIGKILL');
    process.once('exit', orphaned);
    proxy.once('exit', () => process.off('exit', orphaned));
    const proxied = new Proxied(gateway, url, proxy, home);
    await proxied.answers();
    return proxied;
  }

  /** A browser to which this proxy's key, and no other, needs nobody's word. Passkeys want a good certificate. */
  browser(options: LaunchOptions): Promise<Browser> {
    const spki = new X509Certificate(this.certificate).publicKey.export({ type: 'spki', format: 'der' });
    const hash = createHash('sha256').update(spki).digest('base64');
    const args = [...(options.args ?? []), `--ignore-certificate-errors-spki-list=${hash}`];
    return chromium.launch({ ...options, args });
  }

  async stop(): Promise<void> {
    const gone = new Promise<void>((done) => this.proxy.once('exit', () => done()));
    if (this.proxy.exitCode === null && this.proxy.signalCode === null) {
      this.proxy.kill('SIGKILL');
      await gone;
    }
    await this.gateway.stop();
    rmSync(this.home, { recursive: true, force: true });
  }

  private get certificate(): Buffer {
    return readFileSync(join(this.home, 'cert.pem'));
  }

  /** Waits until the gateway answers through it. */
  private async answers(): Promise<void> {
    let told = '';
    const note = (chunk: Buffer) => {
      told += chunk.toString();
    };
    this.proxy.stdout?.on('data', note);
    this.proxy.stderr?.on('data', note);
    const deadline = Date.now() + START_TIMEOUT_MS;
    while ((await this.ping()) !== 'pong') {
      if (this.proxy.exitCode !== null || Date.now() > deadline) {
        await this.stop();
        throw new Error(`the proxy does not work:\n${told}`);
      }
      await new Promise((again) => setTimeout(again, 50));
    }
  }

  private ping(): Promise<string> {
    return new Promise((done) => {
      const request = get(`${this.url}/ping`, { ca: this.certificate, agent: false }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on('end', () => done(text));
      });
      request.on('error', (error) => done(error.message));
    });
  }
}

/** The documented file with these addresses and this certificate in it, and how the program is started with it. */
function command(kind: Kind, home: string, port: number, gateway: string): string[] {
  const name = FILES[kind];
  const changes: [string, string][] = [
    ['127.0.0.1:8080', `127.0.0.1:${gateway}`],
    ['/etc/ssl/chat.example.com', home],
    ['listen 443', `listen 127.0.0.1:${port}`],
    ['bind :443', `bind 127.0.0.1:${port}`],
    ['\nchat.example.com {', `\nhttps://localhost:${port} {\n\tbind 127.0.0.1`],
  ];
  const text = changes.reduce(
    (text, [documented, here]) => text.replaceAll(documented, here),
    readFileSync(join(documented, name), 'utf8'),
  );
  const file = join(home, name);
  switch (kind) {
    case 'nginx': {
      const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
        .map((of) => `${of}_temp_path ${home}/${of};`)
        .join('\n');
      const log = `pid ${home}/nginx.pid;\nerror_log stderr;`;
      writeFileSync(file, `${log}\nevents {}\nhttp {\naccess_log off;\n${temporary}\n${text}\n}\n`);
      return ['nginx', '-p', home, '-c', file, '-g', 'daemon off; master_process off;'];
    }
    case 'caddy':
      // No port for its administration, and no other one for redirects.
      writeFileSync(file, `{\n\tadmin off\n\tauto_https off\n}\n${text}`);
      return ['caddy', 'run', '--adapter', 'caddyfile', '--config', file];
    case 'haproxy':
      writeFileSync(
        join(home, 'both.pem'),
        ['cert.pem', 'key.pem'].map((part) => readFileSync(join(home, part), 'utf8')).join(''),
      );
      writeFileSync(file, text);
      return ['haproxy', '-db', '-f', file];
  }
}

/** Debian keeps two of them where only root looks. */
function find(program: string): string {
  const places = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];
  const found = places.map((place) => join(place, program)).find(existsSync);
  if (found === undefined) throw new Error(`${program} is not installed; scripts/test installs it`);
  return found;
}

function makeCertificate(home: string): void {
  const request = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost';
  const names = ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const files = ['-keyout', join(home, 'key.pem'), '-out', join(home, 'cert.pem')];
  execFileSync('openssl', [...request.split(' '), ...names, ...files], { stdio: 'pipe' });
}

/** A port that was free a moment ago: a proxy cannot be asked which one it took. */
function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const probe = createServer();
    probe.once('error', fail);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() =>
        typeof address === 'object' && address ? done(address.port) : fail(new Error('no port')),
      );
    });
  });
}
