import { BadRequestException, Injectable, type PipeTransform } from '@nestjs/common';

/**
 * Ids become parts of Redis keys: one with braces would choose its hash slot, an endless one fill
 * the memory.
 */
@Injectable()
export class IdPipe implements PipeTransform<string, string> {
  transform(id: string): string {
    if (!/^[\w-]{1,64}$/.test(id)) {
      throw new BadRequestException('An id has 1 to 64 letters, digits, underscores or hyphens');
    }
    return id;
  }
}
