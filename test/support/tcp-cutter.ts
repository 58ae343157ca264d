import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A TCP proxy before a server that passes everything except the answers that it must lose. */
export interface TcpCutter {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  /** Answers lost so far. */
  readonly lost: number;
  /** The next `times` answers do not arrive: their connections close when the first byte would. */
  loseAnswers(times: number): void;
  stop(): Promise<void>;
}

export async function startTcpCutter(target: { host: string; port: number }): Promise<TcpCutter> {
  let toLose = 0;
  let lost = 0;
  const open = new Set<Socket>();
  const keep = (socket: Socket): void => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => open.delete(socket));
  };
  const listener = createServer((client) => {
    const server = connect(target);
    keep(client);
    keep(server);
    client.pipe(server);
    server.on('data', (chunk) => {
      if (toLose > 0) {
        toLose--;
        lost++;
        client.destroy();
        server.destroy();
      } else client.write(chunk);
    });
    server.once('close', () => client.end());
    client.once('close', () => server.end());
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    get lost() {
      return lost;
    },
    loseAnswers: (times) => void (toLose = times),
    stop: async () => {
      const closed = new Promise((resolve) => listener.close(resolve));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
