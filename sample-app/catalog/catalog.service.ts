import { Injectable, Logger, NotFoundException } from '@nestjs/common';
import { Redis } from 'ioredis';
import { ShadowKeyService, type ReplaceOptions, type ShadowWriter } from 'nestjs-atomic-redis';
import { catalogKey } from '../redis/keys.js';
import type {
  CatalogImport,
  CatalogRollback,
  CatalogSize,
  ImportCatalogDto,
  Product,
} from './catalog.dto.js';
import { productsOf } from './supplier.js';

@Injectable()
export class CatalogService {
  private readonly logger = new Logger(CatalogService.name);
  private latest: CatalogImport | undefined;

  constructor(
    private readonly redis: Redis,
    private readonly shadowKeys: ShadowKeyService,
  ) {}

  async import(dto: ImportCatalogDto): Promise<CatalogImport> {
    const running: CatalogImport = { edition: dto.edition, written: 0, state: 'running' };
    this.latest = running;
    try {
      const swapped = await this.replaceCatalog(dto, ({ written, elapsedMs }) => {
        running.written = written;
        this.logger.log(`${written} of ${dto.products} products after ${Math.round(elapsedMs)} ms`);
      });
      running.state = swapped ? 'live' : 'older than the live one';
      return running;
    } catch (error) {
      running.state = 'failed';
      throw error;
    }
  }

  /**
   * Readers see the whole catalogue that was, until they see the whole new one; also when the
   * import breaks off.
   */
  private async replaceCatalog(
    dto: ImportCatalogDto,
    onProgress: NonNullable<ReplaceOptions['onProgress']>,
  ): Promise<boolean> {
    const build = async (writer: ShadowWriter): Promise<void> => {
      for await (const product of productsOf(dto)) {
        await writer.hset([[product.sku, JSON.stringify(product)]]);
      }
    };
    const options = { version: dto.edition, keepPrevious: true, onProgress };
    const { swapped } = await this.shadowKeys.replace(catalogKey, build, options);
    return swapped;
  }

  /** Back to the catalogue before the live one. */
  async rollback(): Promise<CatalogRollback> {
    return { rolledBack: await this.shadowKeys.rollback(catalogKey) };
  }

  latestImport(): CatalogImport {
    if (!this.latest) throw new NotFoundException('No catalogue was imported by this process');
    return this.latest;
  }

  async count(): Promise<CatalogSize> {
    return { products: await this.redis.hlen(catalogKey) };
  }

  async find(sku: string): Promise<Product> {
    const stored = await this.redis.hget(catalogKey, sku);
    if (stored === null) throw new NotFoundException(`The catalogue has no ${sku}`);
    return JSON.parse(stored) as Product;
  }
}
