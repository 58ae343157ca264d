import { Controller, Get } from '@nestjs/common';
import { ApiAtomicProblems } from 'nestjs-atomic-redis/openapi';
import { MailCounts } from './mail.dto.js';
import { MailsService } from './mails.service.js';

@Controller('mails')
export class MailsController {
  constructor(private readonly mails: MailsService) {}

  @Get()
  @ApiAtomicProblems()
  async counts(): Promise<MailCounts> {
    return await this.mails.counts();
  }
}
