import { Controller, Param, Post } from '@nestjs/common';
import { IdPipe } from '../http/id.pipe.js';
import { StatementsService, type Statement } from './statements.service.js';

@Controller('accounts/:id/statements')
export class StatementsController {
  constructor(private readonly statements: StatementsService) {}

  @Post()
  async create(@Param('id', IdPipe) id: string): Promise<Statement> {
    return await this.statements.create(id);
  }
}
